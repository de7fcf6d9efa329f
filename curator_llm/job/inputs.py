"""What a job reads: Parquet and JSONL files, cut into pieces of a bounded number of rows.

A piece is what one Dask task answers and writes. Pieces depend on the data alone, not on the cluster or on how a file's
row groups were cut, so memory stays bounded and two runs write the same files.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from dask.utils import natural_sort_key

from curator_llm.job.job_file import Data
from curator_llm.job.json_lines import JsonLines
from curator_llm.job.places import Place
from curator_llm.spec.nearest import nearest

#: Rows of a piece. Few enough that a partition's requests and replies fit into memory many times.
MOST_ROWS = 25_000
#: How many pieces a job has at least, if they have `_FEWEST_ROWS`: several workers want their share.
_FEWEST_PIECES = 32
_FEWEST_ROWS = 500

_SUFFIXES = {"parquet": (".parquet", ".parq", ".pq"), "jsonl": (".jsonl", ".ndjson", ".json")}

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


class Piece(Protocol):
    """Rows that are read and answered together."""

    def read(self) -> pd.DataFrame:
        """Return the rows."""


class Input(Protocol):
    """What a job reads."""

    @property
    def meta(self) -> pd.DataFrame:
        """An empty frame with the columns and dtypes of every piece."""

    @property
    def schema(self) -> pa.Schema | None:
        """The types on disk, None when the format has none."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces, in the order of the rows."""


def open_input(data: Data) -> Input:
    """Look at an input: files, columns, types. Reads no rows beyond the first lines.

    Raises
    ------
    JobFileError
        When there are no files, they cannot be read, or a column is not there.
    """
    files, base = _files(data)
    if data.format == "jsonl":
        return JsonLines.open(files, data.columns, data.place)
    try:
        dataset = ds.dataset(
            [str(file) for file in files],
            format="parquet",
            partitioning=ds.partitioning(flavor="hive"),
            partition_base_dir=str(base),
        )
    except (pa.ArrowException, OSError) as error:
        msg = f"{data.path} cannot be read as Parquet: {str(error).splitlines()[0]}"
        raise data.place.error(msg) from None
    return ParquetInput(dataset, _selected(list(dataset.schema.names), data.columns, data.place))


def _selected(names: list[str], columns: tuple[str, ...] | None, place: Place) -> list[str]:
    for name in columns or ():
        if name not in names:
            msg = f"`columns` names {name!r}, which the data does not have. {nearest(name, names)}"
            raise place.error(msg)
    return list(columns or names)


@dataclass(frozen=True)
class ParquetPiece:
    """Rows `start` to `stop` of a few row groups that follow each other."""

    row_groups: tuple[Any, ...]
    start: int
    stop: int
    schema: Any
    columns: tuple[str, ...]

    def read(self) -> pd.DataFrame:
        """Return the rows."""
        tables = [group.to_table(schema=self.schema, columns=list(self.columns)) for group in self.row_groups]
        return _to_pandas(pa.concat_tables(tables).slice(self.start, self.stop - self.start))


@dataclass(frozen=True)
class ParquetInput:
    """Parquet files of one schema."""

    dataset: Any
    columns: list[str]

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
        return int(self.dataset.count_rows())

    def pieces(self) -> list[ParquetPiece]:
        """Return the pieces, in the order of the rows."""
        size = min(MOST_ROWS, max(_FEWEST_ROWS, -(-self.rows // _FEWEST_PIECES)))
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
        piece = ParquetPiece(row_groups, start - origin, stop - origin, self.dataset.schema, tuple(self.columns))
        pieces.append(piece)
        return [group for group in groups if group[1] > stop]


def _to_pandas(table: Any) -> pd.DataFrame:
    return cast("pd.DataFrame", table.to_pandas(types_mapper=_DTYPES.get, ignore_metadata=True))


def _files(data: Data) -> tuple[list[Path], Path]:
    """Return the files in natural order (part.2 before part.10), and the directory below which they lie."""
    path = data.path
    if path.exists():
        files = _in_directory(path, data.format) if path.is_dir() else [path]
        base = path if path.is_dir() else path.parent
    else:
        matches = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207  Path.glob takes no absolute pattern
        nested = [_in_directory(found, data.format) if found.is_dir() else [found] for found in matches]
        files = [file for some in nested for file in some]
        base = next((parent for parent in path.parents if not glob.has_magic(str(parent))), path.parent)
    if not files:
        what = f"no {' or '.join(_SUFFIXES[data.format])} files in it" if path.is_dir() else "no such file"
        msg = f"{path}: {what}. Relative paths start at the current directory, {Path.cwd()}."
        raise data.place.error(msg)
    return sorted(set(files), key=lambda file: natural_sort_key(str(file))), base


def _in_directory(directory: Path, kind: str) -> list[Path]:
    """Return the data files below a directory; names that start with _ or . are not data."""
    return [
        file
        for file in directory.rglob("*")
        if file.suffix in _SUFFIXES[kind]
        and not any(part.startswith(("_", ".")) for part in file.relative_to(directory).parts)
        and file.is_file()
    ]
