"""Parquet, local or on a store: files of one schema, read by row groups."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import types

from curator_llm.errors import ConfigurationError
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.pieces import rows_per_piece, selected
from curator_llm.job.data.storage import Location, StoredFile, reached

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
        ConfigurationError
            When a file is damaged, or holds a value that the type of the first file does not.
        RunError
            When a store does not give them.
        """
        tables = []
        is_local = isinstance(self.where, Path)
        bad: Any = (pa.ArrowException, OSError) if is_local else pa.ArrowException  # Arrow raises either
        for group in self.row_groups:
            with reached(self.where, local=is_local):
                try:
                    tables.append(group.to_table(schema=self.schema, columns=list(self.columns)))
                except bad as error:
                    msg = f"{group.path} cannot be read with the types of the first file: {str(error).splitlines()[0]}"
                    raise ConfigurationError(msg) from None
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

    Notes
    -----
    A NaN is a null, as pandas has it: it is read as one, and written as one.
    """

    dataset: Any
    columns: list[str]
    where: Location

    @classmethod
    def open(cls, files: tuple[StoredFile, ...], base: str, data: Data) -> ParquetInput:
        """Look at the schemas of all files; directories named ``key=value`` below `base` become columns.

        Raises
        ------
        JobFileError
            When the files cannot be read, a column is not there, or a file has other ones than the first.
        RunError
            When a store does not give them.

        Notes
        -----
        Cost: reads the metadata of all files, once.
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
            columns = selected(list(dataset.schema.names), data.columns, data.place)
            _check_files(dataset, columns, files[0].fs, data)
        return cls(dataset, columns, data.path)

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


def _check_files(dataset: Any, columns: list[str], fs: Any, data: Data) -> None:
    """Refuse files that lack a column, have another one where all are read, or have one of another kind."""
    with suppress(pa.ArrowException, OSError):  # one that cannot be read is named below
        dataset.count_rows()  # reads the metadata of many files at once
    first: pa.Schema | None = None
    for fragment in dataset.get_fragments():
        file = StoredFile(fs, fragment.path)
        try:
            found = fragment.physical_schema
        except (pa.ArrowException, OSError) as error:
            msg = f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}"
            raise data.place.error(msg) from None
        first = found if first is None else first
        names = [name for name in columns if name in first.names]  # others come from the names of directories
        said = [f"lacks {name!r}" for name in names if name not in found.names]
        said += [f"has {name!r}" for name in found.names if name not in first.names and data.columns is None]
        if said:
            msg = f"{file} {' and '.join(said)}, unlike the first file: list `columns` that all files have."
            raise data.place.error(msg)
        for name in names:
            one, other = dataset.schema.field(name).type, found.field(name).type
            if not types.is_null(other) and _kind(one) != _kind(other):
                msg = f"{file} has {name!r} as {other}, the first file as {one}: write all with one type."
                raise data.place.error(msg)


def _kind(kind: Any) -> Any:
    """Return what is the same of types that hold each other's values, or fail to; Arrow would turn text into others."""
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_list(kind) or types.is_large_list(kind):
        return ["list", _kind(kind.value_type)]
    if types.is_struct(kind):
        return {field.name: _kind(field.type) for field in kind}
    return str(kind.id if types.is_timestamp(kind) else kind)


def _to_pandas(table: Any) -> pd.DataFrame:
    return cast("pd.DataFrame", table.to_pandas(types_mapper=_DTYPES.get, ignore_metadata=True))
