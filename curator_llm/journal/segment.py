"""A segment: an append-only file of records with one writer, which any number of processes read while it grows.

This module covers writing one (`SegmentWriter`) and going through one (`Scan`).
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import re
import socket
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from curator_llm.errors import JournalError
from curator_llm.journal.claims import claim
from curator_llm.journal.index import Place
from curator_llm.journal.record import decode, encode, intact, seal
from curator_llm.wire.exchange import Record

FORMAT = 1
_HEADER = b'"journal":'
_HEADER_AT = 18
_READ_BYTES = 1 << 20
#: Begins the last part of the name of a segment that took the place of others; in others it is hexadecimal.
_REWRITTEN = "r"
_GONE = (errno.ENOENT, errno.ESTALE)
#: What a disk says that is full or ill.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_ADVICE = {
    errno.ENOSPC: "The disk is full: free space.",
    errno.EDQUOT: "Your disk quota is used up: free space.",
    errno.EFBIG: "The file size limit is reached: raise it (`ulimit -f`) or lower curator-llm.journal.roll-bytes.",
    errno.EROFS: "The file system is read-only.",
    errno.EACCES: "This user may not use it: change its permissions.",
    errno.EPERM: "This user may not use it: change its permissions.",
    errno.EEXIST: "A file stands where a directory is needed: remove it.",
    errno.ENOTDIR: "A file stands where a directory is needed: remove it.",
    errno.EMFILE: "This process has too many open files: raise the limit (`ulimit -n`).",
}


class _Header(msgspec.Struct):
    journal: int
    package: str
    run: str | None


def advice(error: OSError) -> str:
    """Return what to do about an error of the disk."""
    return _ADVICE.get(error.errno or 0, "See whether the disk is still there.")


def journal_error(error: OSError, doing: str, path: Path) -> JournalError:
    """Return the error that says what the journal could not do, and what to do about it."""
    what = f"Cannot {doing} {path}: {error.strerror or error}."
    elsewhere = "Or keep the journal elsewhere: `journal=` of the stage, or curator-llm.journal.path."
    return JournalError(f"{what} {advice(error)} {elsewhere} Replies stored so far are kept.")


def is_gone(error: OSError) -> bool:
    """Whether the file was removed, which is a user's right."""
    return error.errno in _GONE


def segments_of(journal: Path) -> list[Path]:
    """Return the segments of a journal, in their order; what else lies there is none."""
    return sorted(path for path in (journal / "seg").glob("*.jsonl") if path.is_file())


class SegmentWriter:
    """The one writer of a new segment; used by one thread at a time.

    Parameters
    ----------
    directory : Path
        Of the journal; the file is made in its ``seg``.
    roll_bytes, roll_records : int
        From these on the segment is `full`.
    run : str, optional
        For the first line.

    Attributes
    ----------
    path : Path
    size_bytes, count : int
        What is in the file for certain.

    Raises
    ------
    JournalError
        When the file cannot be made.
    """

    def __init__(self, directory: Path, roll_bytes: int, roll_records: int, run: str | None = None) -> None:
        self.path = directory / "seg" / _new_name()
        self.size_bytes = self.count = 0
        self._roll_bytes, self._roll_records = roll_bytes, roll_records
        self._failed = False
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise journal_error(error, "make", self.path) from None
        claim(self._file)
        try:
            self.size_bytes = self._write(header_line(run))
        except JournalError:
            self.close()
            raise

    @property
    def full(self) -> bool:
        """Whether the next records belong into another segment; so they do after a failed write."""
        return self._failed or self.size_bytes >= self._roll_bytes or self.count >= self._roll_records

    def append(self, records: Sequence[Record]) -> list[Place]:
        """Write records, all or none.

        Returns
        -------
        list of (int, int)
            Offset and length of each line, in bytes.

        Raises
        ------
        JournalError
            When they cannot be written; the file is as it was.
        """
        lines = [encode(record) for record in records]
        places, offset = [], self.size_bytes
        for line in lines:
            places.append((offset, len(line)))
            offset += len(line)
        self.size_bytes += self._write(b"".join(lines))
        self.count += len(lines)
        return places

    def sync(self) -> None:
        """Wait until everything is on the disk.

        Raises
        ------
        JournalError
            When the disk says no; some of what was written since the last call may be lost.
        """
        try:
            getattr(os, "fdatasync", os.fsync)(self._file)
        except OSError as error:
            self._failed = True
            raise journal_error(error, "sync", self.path) from None

    def close(self) -> None:
        """Close the file; one without records is removed."""
        os.close(self._file)
        if not self.count:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left:  # a short write says why at the next try
                written = os.write(self._file, left)
                if not written:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                left = left[written:]
        except OSError as error:
            # Readers may have seen what is cut off here, so nothing may ever stand in its place.
            self._failed = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size_bytes)
            raise journal_error(error, "write to", self.path) from None
        return len(data)


class Scan:
    """Goes through the whole lines of a segment; iterating yields offset, line and record of each good one.

    Parameters
    ----------
    path : Path
    start : int, default 0
        Where a line begins, in bytes.

    Attributes
    ----------
    position : int
        Up to where whole lines were read: the `start` of a later scan. A torn last line lies behind it.
    damaged : int
        How many lines were no records.

    Raises
    ------
    OSError
        From iterating, when the file cannot be read.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path = path
        self.position = start
        self.damaged = 0

    def __iter__(self) -> Iterator[tuple[int, bytes, Record]]:
        with self.path.open("rb", buffering=_READ_BYTES) as file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset = self.position
                self.position += len(line)
                record = decode(line)
                if record is not None:
                    yield offset, line, record
                elif offset or not _is_header(line):
                    self.damaged += 1


def header_line(run: str | None) -> bytes:
    """Return the first line of a segment."""
    return seal(_Header(FORMAT, _package_version(), run))


def _is_header(line: bytes) -> bool:
    return line.startswith(_HEADER, _HEADER_AT) and intact(line)


def successor_name(name: str) -> str:
    """Return the name of a segment that takes the place of another one, or of several, and sorts where that one did."""
    return re.sub(r"[^-]*\.jsonl$", f"{_REWRITTEN}{uuid.uuid4().hex[:8]}.jsonl", name)


def is_rewritten(name: str) -> bool:
    """Whether a segment holds records that stood in others before."""
    return name.rpartition("-")[2].startswith(_REWRITTEN)


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{process_name()}-{uuid.uuid4().hex[:8]}.jsonl"


def process_name() -> str:
    """Return host and process, fit to stand in the name of a file."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '_', socket.gethostname())[:40]}-{os.getpid()}"


def _package_version() -> str:
    try:
        return importlib.metadata.version("curator-llm")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"
