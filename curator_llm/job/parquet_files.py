"""Parquet, local or on a store: files of one schema, read by row groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from curator_llm.job.data import Data
from curator_llm.job.pieces import rows_per_piece, selected
from curator_llm.job.storage import Location, StoredFile, reached

#: Arrow's types as pandas dtypes that know nulls, so that a whole number is one beside a null too.
_DTYPES: dict[Any, Any] = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.float32(): pd.Float32Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.string(): pd.StringDtype("pyarrow"),
    pa.large_string(): pd.StringDtype("pyarrow"),
    pa.string_view(): pd.StringDtype("pyarrow"),
}


@dataclass(frozen=True)
class ParquetPiece:
    """Rows `start` to `stop` of a few row groups that follow each other."""

    row_groups: tuple[Any, ...]
    start: int
    stop: int
    schema: Any
    columns: tuple[str, ...]
    where: Location

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.stop - self.start

    def read(self) -> pd.DataFrame:
        """Return the rows.

        Raises
        ------
        RunError
            When a store does not give them.
        """
        with reached(self.where, local=isinstance(self.where, Path)):
            tables = [group.to_table(schema=self.schema, columns=list(self.columns)) for group in self.row_groups]
        return _to_pandas(pa.concat_tables(tables).slice(self.start, self.rows))


@dataclass(frozen=True)
class ParquetInput:
    """Parquet files of one schema.

    Parameters
    ----------
    dataset : pyarrow.dataset.Dataset
    columns : list of str
    where : Path or StorePath
        For errors.
    """

    dataset: Any
    columns: list[str]
    where: Location

    @classmethod
    def open(cls, files: tuple[StoredFile, ...], base: str, data: Data) -> ParquetInput:
        """Look at the schema of the first file; directories named ``key=value`` below `base` become columns.

        Raises
        ------
        JobFileError
            When the files cannot be read, or a column is not there.
        RunError
            When a store does not give them.
        """
        with reached(data.path, local=isinstance(data.path, Path)):
            try:
                dataset = ds.dataset(
                    [file.path for file in files],
                    format="parquet",
                    filesystem=files[0].fs,
                    partitioning=ds.partitioning(flavor="hive"),
                    partition_base_dir=base,
                )
            except (pa.ArrowException, OSError) as error:
                msg = f"{data.path} cannot be read as Parquet: {str(error).splitlines()[0]}"
                raise data.place.error(msg) from None
        return cls(dataset, selected(list(dataset.schema.names), data.columns, data.place), data.path)

    @cached_property
    def schema(self) -> pa.Schema:
        """The types on disk, of the selected columns."""
        whole = self.dataset.schema
        return pa.schema([whole.field(name) for name in self.columns], metadata=whole.metadata)

    @cached_property
    def meta(self) -> pd.DataFrame:
        """An empty frame with the columns and dtypes of every piece."""
        return _to_pandas(self.schema.empty_table())

    @cached_property
    def rows(self) -> int:
        """How many rows there are, from the files' metadata."""
        with reached(self.where, local=isinstance(self.where, Path)):
            return int(self.dataset.count_rows())

    def pieces(self) -> list[ParquetPiece]:
        """Return the pieces, in the order of the rows."""
        size = rows_per_piece(self.rows)
        pieces: list[ParquetPiece] = []
        open_groups: list[tuple[int, int, Any]] = []  # first row, end, row group
        end = 0
        for fragment in self.dataset.get_fragments():
            for group in fragment.split_by_row_group():
                first, end = end, end + sum(part.num_rows for part in group.row_groups)
                open_groups.append((first, end, group))
                while end >= (start := len(pieces) * size) + size:
                    open_groups = self._cut(pieces, open_groups, start, start + size)
        if end > len(pieces) * size:
            self._cut(pieces, open_groups, len(pieces) * size, end)
        return pieces

    def _cut(
        self, pieces: list[ParquetPiece], groups: list[tuple[int, int, Any]], start: int, stop: int
    ) -> list[tuple[int, int, Any]]:
        """Add the piece from row `start` to `stop`; return the row groups that reach beyond it."""
        inside = [(first, group) for first, end, group in groups if end > start and first < stop]
        origin = inside[0][0]
        row_groups = tuple(group for _, group in inside)
        pieces.append(
            ParquetPiece(
                row_groups, start - origin, stop - origin, self.dataset.schema, tuple(self.columns), self.where
            )
        )
        return [group for group in groups if group[1] > stop]


def _to_pandas(table: Any) -> pd.DataFrame:
    return cast("pd.DataFrame", table.to_pandas(types_mapper=_DTYPES.get, ignore_metadata=True))
