"""What is in a journal, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from curator_llm.journal.segment import Scan, segments_of
from curator_llm.journal.store import check_format
from curator_llm.wire.exchange import Record


@dataclass
class Sum:
    """Records of one kind.

    Attributes
    ----------
    requests, attempts, input_tokens, output_tokens : int
        As servers counted the tokens.
    """

    requests: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, record: Record) -> None:
        """Add a record."""
        self.requests += 1
        self.attempts += record.attempts
        self.input_tokens += record.input_tokens or 0
        self.output_tokens += record.output_tokens or 0


@dataclass
class Contents:
    """What is in a journal.

    Attributes
    ----------
    segments, size_bytes : int
        Files of records, and their size.
    records : int
    final, distinct : int
        Final records, and requests that have one: the difference was answered more than once.
    damaged : int
        Lines that are no records: their rows are asked again.
    torn : int
        Files that end within a line: their writer was killed, or is just writing.
    oldest_at, newest_at : float or None
        Seconds since 1970.
    by : dict of (str, str) to Sum
        By model and status.
    """

    segments: int = 0
    size_bytes: int = 0
    records: int = 0
    final: int = 0
    distinct: int = 0
    damaged: int = 0
    torn: int = 0
    oldest_at: float | None = None
    newest_at: float | None = None
    by: dict[tuple[str, str], Sum] = field(default_factory=dict)


def contents(directory: Path) -> Contents:
    """Count what is in a journal, also while runs write to it.

    Parameters
    ----------
    directory : Path

    Raises
    ------
    JournalError
        When it is no journal of a version this package knows.
    OSError
        When a segment cannot be read.

    Notes
    -----
    Reads every record, about 300,000 a second, and takes about 100 bytes of memory for each request.
    """
    check_format(directory)
    counted = Contents()
    keys: set[bytes] = set()
    for path in segments_of(directory):
        scan = Scan(path)
        for _, _, record in scan:
            counted.records += 1
            counted.by.setdefault((record.model or "-", record.status), Sum()).add(record)
            counted.oldest_at = min(counted.oldest_at or record.at, record.at)
            counted.newest_at = max(counted.newest_at or record.at, record.at)
            if record.final:
                counted.final += 1
                keys.add(bytes.fromhex(record.key))
        size_bytes = path.stat().st_size
        counted.segments += 1
        counted.size_bytes += size_bytes
        counted.damaged += scan.damaged
        counted.torn += scan.position < size_bytes
    counted.distinct = len(keys)
    return counted
