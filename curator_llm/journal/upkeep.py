"""Upkeep of a journal that nobody writes: taking replies out, and making few segments of many.

A segment is never changed: a new file takes its place, in the same place of the order, and the old one is removed. Who
reads the journal meanwhile, or is killed here, finds every record that stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from dask.utils import parse_bytes

from curator_llm import config
from curator_llm.errors import JournalError
from curator_llm.journal.claims import claim, has_writer
from curator_llm.journal.record import encode
from curator_llm.journal.segment import Scan, header_line, journal_error, segments_of, successor_name
from curator_llm.journal.store import check_format
from curator_llm.wire.exchange import Record

_NO_REPLY = msgspec.Raw(b"null")


@dataclass
class Upkeep:
    """What was done.

    Attributes
    ----------
    removed, kept : int
        Records.
    segments_before, segments : int
    freed_bytes : int
    """

    segments_before: int
    removed: int = 0
    kept: int = 0
    segments: int = 0
    freed_bytes: int = 0


def remove(directory: Path, condition: Callable[[Record], bool], *, dry: bool = False) -> Upkeep:
    """Take out records; their rows are asked again when they are needed.

    Parameters
    ----------
    directory : Path
        Of the journal.
    condition : callable
        Says of a record whether it goes, final or not.
    dry : bool, default False
        Whether to count alone.

    Raises
    ------
    JournalError
        When it is no journal, a process writes to it (nothing is changed then), or the disk says no (what was removed
        until then is gone).

    Notes
    -----
    Reads every record, about 300,000 a second. A segment from which a record goes loses its damaged lines, too.
    """
    with _upkeep(directory) as paths:
        done = Upkeep(len(paths))
        for path in paths:
            stay, count = [], 0
            for offset, line, record in Scan(path):
                count += 1
                if not condition(record):
                    stay.append((offset, len(line)))
            done.removed += count - len(stay)
            done.kept += len(stay)
            if dry or len(stay) == count:
                done.segments += 1
                continue
            done.freed_bytes += path.stat().st_size
            with path.open("rb", buffering=0) as file, _Successors(path, done) as new:
                for offset, length in stay:
                    file.seek(offset)
                    new.write(file.read(length), path)
            _drop([path])
        return done


def compact(directory: Path) -> Upkeep:
    """Make few segments of many, without what no run reads again.

    What goes: second replies to one request (what they cost stays), failures that cost nothing, and damaged lines.
    Columns and costs are as before.

    Parameters
    ----------
    directory : Path
        Of the journal.

    Raises
    ------
    JournalError
        As `remove`; when the disk says no, nothing has changed.

    Notes
    -----
    Reads and writes every record, and takes about 100 bytes of memory for each.
    """
    seen: set[bytes] = set()
    with _upkeep(directory) as paths:
        done = Upkeep(len(paths), freed_bytes=sum(path.stat().st_size for path in paths))
        if paths:
            with _Successors(paths[0], done) as new:
                for path in paths:
                    for _, line, record in Scan(path):
                        compacted = _compacted(line, record, seen)
                        done.removed += not compacted
                        done.kept += bool(compacted)
                        if compacted:
                            new.write(compacted, path)
        _drop(paths)
        return done


def _compacted(line: bytes, record: Record, seen: set[bytes]) -> bytes:
    key = bytes.fromhex(record.key)
    if record.final and key not in seen:
        seen.add(key)
        return line
    if not record.billed:
        return b""
    # The reply of a final one must never come to be the first, so it is final no more.
    return encode(msgspec.structs.replace(record, final=False, reply=_NO_REPLY)) if record.final else line


class _Successors:
    """Segments that take the place of others: each appears whole, in the order of the one its first line is from."""

    def __init__(self, first: Path, done: Upkeep) -> None:
        self._done = done
        self._folder = first.parent
        self._roll_bytes = parse_bytes(config.get("journal.roll-bytes"))
        self._roll_records = int(config.get("journal.roll-records"))
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._name = first.name
        self._parts: list[tuple[Path, Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end_one()
            for part, path in self._parts:
                part.replace(path)
            self._done.segments += len(self._parts)
        else:
            for part, _path in self._parts:
                part.unlink(missing_ok=True)

    def write(self, line: bytes, source: Path) -> None:
        if self._size_bytes >= self._roll_bytes or len(self._lines) >= self._roll_records:
            self._end_one()
        if not self._lines:
            self._name = source.name
        self._lines.append(line)
        self._size_bytes += len(line)

    def _end_one(self) -> None:
        if not self._lines:
            return
        path = self._folder / successor_name(self._name)
        part = path.with_suffix(".part")
        self._parts.append((part, path))
        part.touch(mode=0o600, exist_ok=False)
        with part.open("wb") as file:
            file.write(header_line(None))
            file.writelines(self._lines)
            file.flush()
            os.fsync(file.fileno())
            self._done.freed_bytes -= file.tell()
        self._lines, self._size_bytes = [], 0


@contextmanager
def _upkeep(directory: Path) -> Iterator[list[Path]]:
    """Give the segments of a journal in order; nobody writes them, and nobody else does upkeep here."""
    check_format(directory)
    try:
        with (directory / "FORMAT").open("r+b") as lock:
            if claim(lock.fileno()) == "taken":
                msg = f"Somebody else does upkeep of {directory}: wait for its end."
                raise JournalError(msg)
            for left in (directory / "seg").glob("*.part"):  # of one that was killed
                left.unlink()
            paths = segments_of(directory)
            written = [path.name for path in paths if has_writer(path)]
            if written:
                msg = (
                    f"A process still writes to {directory}, in {written[0]} (time, host and number of the process): "
                    "end it first. In this process, curator_llm.runtime.close() does. Nothing was changed."
                )
                raise JournalError(msg)
            yield paths
    except OSError as error:
        raise journal_error(error, "do upkeep of", directory) from None


def _drop(paths: list[Path]) -> None:
    for path in paths:
        (path.parent.parent / "idx" / f"{path.name}.idx").unlink(missing_ok=True)
        path.unlink()
