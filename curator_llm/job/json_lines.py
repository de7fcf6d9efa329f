"""JSONL: one JSON object per line. Reading in pieces of whole lines, with dtypes found in the first lines; writing."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import msgspec
import pandas as pd

from curator_llm.errors import ConfigurationError
from curator_llm.frame.columns import table_of
from curator_llm.job.places import Place
from curator_llm.spec.nearest import nearest

#: From how many lines columns and dtypes are learnt.
_SAMPLE_LINES = 1_000
_MOST_BYTES = 32 * 2**20
_FEWEST_BYTES = 256 * 2**10
_FEWEST_PIECES = 32

#: The types a column of a dtype holds, beside null. Columns of other or of several types are kept as Python has them.
_TYPES: dict[str, set[type]] = {
    "string[pyarrow]": {str},
    "Int64": {int},
    "Float64": {int, float},
    "boolean": {bool},
}


@dataclass(frozen=True)
class LinesPiece:
    """The lines of a file that begin between two of its bytes."""

    file: str
    start: int
    stop: int
    dtypes: dict[str, str]
    selected: bool

    def read(self) -> pd.DataFrame:
        """Return the rows.

        Raises
        ------
        ConfigurationError
            For a line that is no JSON object, or does not have the columns and types of the first ones.
        """
        rows = [row for _, row in _rows(self.file, self.start, self.stop)]
        if not self.selected:
            for name in sorted({name for row in rows for name in row} - set(self.dtypes)):
                msg = (
                    f"{self.file} has a column {name!r}, which none of the first {_SAMPLE_LINES:,} lines has: "
                    "list the `columns` of the input that are wanted."
                )
                raise ConfigurationError(msg)
        return pd.DataFrame({name: self._column(name, rows) for name in self.dtypes}, index=pd.RangeIndex(len(rows)))

    def _column(self, name: str, rows: list[dict[str, Any]]) -> Any:
        values = [row.get(name) for row in rows]
        dtype = self.dtypes[name]
        if dtype == "object":
            return pd.Series(values, dtype=object)
        if _types(values) <= _TYPES[dtype]:
            return pd.array(cast("Any", values), dtype=cast("Any", dtype))
        msg = (
            f"column {name!r} of {self.file} does not hold one kind of value: the first {_SAMPLE_LINES:,} lines have "
            f"{dtype}, later ones something else. Make them equal, or leave the column out of `columns`."
        )
        raise ConfigurationError(msg)


@dataclass(frozen=True)
class JsonLines:
    """JSONL files with the same columns."""

    files: tuple[str, ...]
    dtypes: dict[str, str]
    selected: bool
    schema: None = None

    @classmethod
    def open(cls, files: Sequence[Path], columns: tuple[str, ...] | None, place: Place) -> JsonLines:
        """Learn columns and dtypes from the first lines.

        Raises
        ------
        JobFileError
            When these are not JSON objects, or a column is not there.
        """
        names = tuple(str(file) for file in files)
        try:
            lines = itertools.chain.from_iterable(_rows(name, 0, None) for name in names)
            sample = [row for _, row in itertools.islice(lines, _SAMPLE_LINES)]
        except (ConfigurationError, OSError) as error:
            raise place.error(str(error)) from None
        known = list(dict.fromkeys(name for row in sample for name in row))
        for name in columns or ():
            if name not in known:
                msg = f"`columns` names {name!r}, which the data does not have. {nearest(name, known)}"
                raise place.error(msg)
        if not known:
            msg = f"{names[0]} holds no rows."
            raise place.error(msg)
        dtypes = {name: _dtype([row.get(name) for row in sample]) for name in columns or known}
        return cls(names, dtypes, selected=columns is not None)

    @cached_property
    def meta(self) -> pd.DataFrame:
        """An empty frame with the columns and dtypes of every piece."""
        return pd.DataFrame({name: pd.Series([], dtype=cast("Any", dtype)) for name, dtype in self.dtypes.items()})

    @cached_property
    def rows(self) -> int:
        """How many rows there are; reads the files."""
        total = 0
        for file in self.files:
            with Path(file).open("rb") as lines:
                total += sum(not line.isspace() for line in lines)
        return total

    def pieces(self) -> list[LinesPiece]:
        """Return the pieces, in the order of the rows."""
        sizes = {file: Path(file).stat().st_size for file in self.files}
        most = min(_MOST_BYTES, max(_FEWEST_BYTES, sum(sizes.values()) // _FEWEST_PIECES))
        return [
            LinesPiece(file, start, min(start + most, size), self.dtypes, self.selected)
            for file, size in sizes.items()
            for start in range(0, size, most)
        ]


def encode_lines(frame: pd.DataFrame) -> bytes:
    """Return the rows as JSONL: nulls as null, dates in ISO 8601, lists and structs as they are."""
    names = [str(name) for name in frame.columns]
    columns = table_of(frame, names)
    encoder = msgspec.json.Encoder(enc_hook=_plain)
    rows = zip(*(columns[name] for name in names), strict=True)
    return b"".join(encoder.encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows)


def _plain(value: Any) -> Any:
    """Turn what numpy and pandas hold into what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


def _rows(file: str, start: int, stop: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows whose lines begin in [start, stop), each with its first byte."""
    with Path(file).open("rb") as lines:
        if start:
            lines.seek(start - 1)
            lines.readline()
        at = lines.tell()
        while stop is None or at < stop:
            line = lines.readline()
            if not line:
                return
            if not line.isspace():
                yield at, _row(line, file, at)
            at += len(line)


def _row(line: bytes, file: str, at: int) -> dict[str, Any]:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        msg = f"{file}: the line that begins at byte {at:,} is no JSON ({error}); give one JSON object per line."
        raise ConfigurationError(msg) from None
    if not isinstance(row, dict):
        msg = f"{file}: the line that begins at byte {at:,} holds a {type(row).__name__}, not a JSON object."
        raise ConfigurationError(msg)
    return row


def _dtype(values: list[Any]) -> str:
    found = _types(values)
    return next((dtype for dtype, types in _TYPES.items() if found and found <= types), "object")


def _types(values: list[Any]) -> set[type]:
    """Return the types among some values; None has none, and a whole number that no 64 bits hold is no int."""
    types = {type(value) for value in values if value is not None}
    if int in types and any(type(value) is int and not -(2**63) <= value < 2**63 for value in values):
        types.add(object)
    return types
