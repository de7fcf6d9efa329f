"""JSONL: one JSON object per line. Reading in pieces of whole lines, with dtypes found in the first lines; writing."""

from __future__ import annotations

import datetime as dt
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np
import pandas as pd

from curator_llm.errors import ConfigurationError
from curator_llm.frame.columns import table_of
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.pieces import check_read, selected
from curator_llm.job.data.records import SAMPLE_RECORDS, RecordInput, Span, line_ends, scan
from curator_llm.job.data.storage import StoredFile

#: The types a column of a dtype holds, beside null. Columns of other or of several types are kept as Python has them.
_TYPES: dict[str, set[type]] = {
    "string[pyarrow]": {str},
    "Int64": {int},
    "Float64": {int, float},
    "boolean": {bool},
}


@dataclass(frozen=True)
class JsonLines:
    """JSON objects, one per line.

    Parameters
    ----------
    dtypes : dict
        Of the columns.
    selected : bool
        Whether the job file names them; others may be there, then.
    """

    dtypes: dict[str, str]
    selected: bool

    @classmethod
    def open(cls, files: tuple[StoredFile, ...], data: Data) -> RecordInput:
        """Learn columns and dtypes from the first lines.

        Raises
        ------
        JobFileError
            When there are none, or a column is not there.
        ConfigurationError
            When these are not JSON objects.
        """
        nothing = cls({}, selected=False)
        spans = itertools.chain.from_iterable(scan(file, nothing, 0) for file in files)
        rows = itertools.chain.from_iterable(_rows(span, block) for span, block in spans)
        sample = list(itertools.islice(rows, SAMPLE_RECORDS))
        known = list(dict.fromkeys(name for row in sample for name in row))
        names = selected(known, data.columns, data.place)
        if not known:
            msg = f"{files[0]} holds no rows."
            raise data.place.error(msg)
        check_read("as_number", data.as_number, names, data.place)
        dtypes = {name: _dtype([row.get(name) for row in sample]) for name in names}
        dtypes |= dict.fromkeys(data.as_number, "Float64")
        return RecordInput(files, cls(dtypes, selected=data.columns is not None))

    def begin(self, file: StoredFile) -> tuple[JsonLines, int]:
        """Return the layout of one file, and the byte where its records begin."""
        del file
        return self, 0

    def records(self, block: bytes, *, last: bool) -> tuple[Any, Any]:
        """Return where lines end, and which are not blank."""
        ends = line_ends(block, last=last)
        starts = np.concatenate(([0], ends[:-1])).astype(np.int64) if len(ends) else ends
        is_row = np.ones(len(ends), dtype=bool)
        firsts = np.frombuffer(block, dtype=np.uint8)[starts]
        for line in np.flatnonzero(firsts <= ord(" ")):  # an object begins otherwise; most lines are not looked at
            is_row[line] = not block[starts[line] : ends[line]].isspace()
        return ends, is_row

    def frame(self, span: Span, block: bytes) -> pd.DataFrame:
        """Return the rows of some lines.

        Raises
        ------
        ConfigurationError
            For a line that is no JSON object, or does not have the columns and types of the first ones.
        """
        rows = list(_rows(span, block))
        if not self.selected:
            for name in sorted({name for row in rows for name in row} - set(self.dtypes)):
                msg = (
                    f"{span.file} has a column {name!r}, which none of the first {SAMPLE_RECORDS:,} lines has: "
                    "list the `columns` of the input that are wanted."
                )
                raise ConfigurationError(msg)
        columns = {name: self._column(name, rows, span) for name in self.dtypes}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))

    def _column(self, name: str, rows: list[dict[str, Any]], span: Span) -> Any:
        values = [row.get(name) for row in rows]
        dtype = self.dtypes[name]
        if dtype == "object":
            return pd.Series(values, dtype=object)
        if _types(values) <= _TYPES[dtype]:
            return pd.array(cast("Any", values), dtype=cast("Any", dtype))
        msg = (
            f"column {name!r} of {span.file} does not hold one kind of value: the first {SAMPLE_RECORDS:,} lines, or "
            f"`as_number`, say {dtype}, and there is something else. Make them equal; or, if all are numbers, name the "
            "column in `as_number` of the input; or leave it out of `columns`."
        )
        raise ConfigurationError(msg)


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


def _rows(span: Span, block: bytes) -> Iterator[dict[str, Any]]:
    at = span.start
    for line in io.BytesIO(block):
        if not line.isspace():
            yield _row(line, span.file, at)
        at += len(line)


def _row(line: bytes, file: StoredFile, at: int) -> dict[str, Any]:
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
