"""Files of records, JSONL and CSV: one scan finds where records end, and a piece is read by its first and last byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.data import pieces
from curator_llm.job.data.storage import StoredFile

#: From how many records columns and dtypes are learnt.
SAMPLE_RECORDS = 1_000
_BLOCK_BYTES = 4 * 2**20
#: The scan remembers a place in a file after so many bytes, or `pieces.FEWEST_ROWS`.
_SPAN_BYTES = 2**20
#: A longer record is no record but a quote that is never closed, or a file of another format.
_MOST_RECORD_BYTES = 256 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Span:
    """Records of a file that follow each other.

    Parameters
    ----------
    file : StoredFile
    start, stop : int
        The first byte, and the one behind the last.
    first : int
        Number of the first record in its file, from 1.
    rows : int
    """

    file: StoredFile
    start: int
    stop: int
    first: int
    rows: int


class BrokenRecordError(Exception):
    """Bytes that are no record; names the byte of a block."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


class Layout(Protocol):
    """What a format knows of its files: where records end, and what they hold; travels to workers."""

    @property
    def dtypes(self) -> Mapping[str, str]:
        """The columns of every piece."""

    def begin(self, file: StoredFile) -> tuple[Layout, int]:
        """Return the layout of one file, and the byte where its records begin."""

    def records(self, block: bytes, *, last: bool) -> tuple[Any, Any]:
        """Return where records end in bytes that begin with one, and which of them are rows, not blank.

        Raises
        ------
        BrokenRecordError
            When there is something else.
        """

    def frame(self, span: Span, block: bytes) -> pd.DataFrame:
        """Return the rows of some records."""


def line_ends(block: bytes, *, last: bool) -> Any:
    """Return where lines end; the last one of a file may have no line feed."""
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
    return np.append(ends, len(block)) if last and block and not block.endswith(b"\n") else ends


def scan(file: StoredFile, layout: Layout, start: int) -> Iterator[tuple[Span, bytes]]:
    """Yield the records of a file, some hundred at a time, with their bytes; reads the file once.

    Raises
    ------
    ConfigurationError
        When the bytes are no records, with the number of the record.
    """
    number = 1
    for at, block, ends, is_row in _blocks(file, layout, start, number):
        before = np.concatenate(([0], np.cumsum(is_row)))
        starts = np.concatenate(([0], ends[:-1]))
        one = 0
        while one < len(ends):
            within = np.searchsorted(ends, starts[one] + min(_SPAN_BYTES, pieces.MOST_BYTES), "right")
            end = min(one + pieces.FEWEST_ROWS, max(one + 1, int(within)), len(ends))
            first, stop, rows = int(starts[one]), int(ends[end - 1]), int(before[end] - before[one])
            if rows:
                yield Span(file, at + first, at + stop, number, rows), block[first:stop]
            number += rows
            one = end


def read_header(file: StoredFile, layout: Layout) -> tuple[bytes, int]:
    """Return the header of a file, without a byte order mark, and the byte behind it; nothing of an empty file."""
    for at, block, ends, is_row in _blocks(file, layout, 0, 0):
        if is_row.any():
            one = int(np.argmax(is_row))
            return block[int(ends[one - 1]) if one else 0 : int(ends[one])], at + int(ends[one])
    return b"", 0


def _blocks(file: StoredFile, layout: Layout, at: int, number: int) -> Iterator[tuple[int, bytes, Any, Any]]:
    """Yield whole records: the first byte, the bytes, where records end in them and which are rows.

    The first one has a number, for errors.
    """
    rest = b""
    with file.open() as stream:
        stream.seek(at)
        while True:
            more = stream.read(max(_BLOCK_BYTES, len(rest)))
            block = rest + more
            if at == 0 and block.startswith(_BYTE_ORDER_MARK):
                at, block = len(_BYTE_ORDER_MARK), block[len(_BYTE_ORDER_MARK) :]
            try:
                ends, is_row = layout.records(block, last=not more)
            except BrokenRecordError as error:
                number += int(layout.records(block[: error.offset], last=False)[1].sum())
                msg = f"{file}, record {number:,}, byte {at + error.offset:,}: {error}"
                raise ConfigurationError(msg) from None
            stop = int(ends[-1]) if len(ends) else 0
            if stop:
                yield at, block[:stop], ends, is_row
            if not more:
                return
            at, rest, number = at + stop, block[stop:], number + int(is_row.sum())
            if len(rest) > _MOST_RECORD_BYTES:
                msg = f"{file}, record {number:,}: it begins at byte {at:,} and does not end within 256 MiB."
                raise ConfigurationError(msg)


@dataclass(frozen=True)
class RecordPiece:
    """Records that are answered together."""

    span: Span
    layout: Layout

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.span.rows

    def read(self) -> pd.DataFrame:
        """Return the rows.

        Raises
        ------
        ConfigurationError
            For a record that does not have the columns and types of the first ones.
        RunError
            When a store does not give them, or the file is not the one that was scanned.
        """
        span = self.span
        block = span.file.read(span.start, span.stop)
        if len(block) == span.stop - span.start:  # a web server may know no ranges, and send the whole file
            frame = self.layout.frame(span, block)
            if len(frame) == span.rows:
                return frame
        msg = (
            f"{span.file}: bytes {span.start:,} to {span.stop:,} do not hold the {span.rows:,} records that were found "
            "there: it changed while the job ran, or its server gives no parts of files. Run again, or copy it first."
        )
        raise RunError(msg)


@dataclass(frozen=True)
class RecordInput:
    """Files of records with the same columns.

    Parameters
    ----------
    files : tuple of StoredFile
    layout : Layout

    Notes
    -----
    Cost: `rows` and `pieces` read all files, once together.
    """

    files: tuple[StoredFile, ...]
    layout: Layout
    schema: None = None

    @cached_property
    def meta(self) -> pd.DataFrame:
        """An empty frame with the columns and dtypes of every piece."""
        dtypes = self.layout.dtypes.items()
        return pd.DataFrame({name: pd.Series([], dtype=cast("Any", dtype)) for name, dtype in dtypes})

    @cached_property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(piece.rows for piece in self._spans)

    @cached_property
    def _spans(self) -> list[RecordPiece]:
        spans = []
        for file in self.files:
            layout, start = self.layout.begin(file)
            spans += [RecordPiece(span, layout) for span, _ in scan(file, layout, start)]
        return spans

    def pieces(self) -> list[RecordPiece]:
        """Return the pieces, in the order of the rows."""
        size = pieces.rows_per_piece(self.rows)
        joined: list[RecordPiece] = []
        for piece in self._spans:
            span, before = piece.span, joined[-1].span if joined else None
            if (
                before
                and before.file is span.file
                and before.rows + span.rows <= size
                and span.stop - before.start <= pieces.MOST_BYTES
            ):
                joined[-1] = replace(joined[-1], span=replace(before, stop=span.stop, rows=before.rows + span.rows))
            else:
                joined.append(piece)
        return joined
