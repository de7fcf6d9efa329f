"""The journal: a directory of segments that answers which record a key has.

::

    FORMAT                        version of this layout
    seg/<UTC>-<host>-<pid>-<id>.jsonl   records; one writer each, new for every process
    idx/<segment>.idx             derived; may be removed at any time

The first final record of a key wins, by segment name and then by place in the segment: the same for every reader.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from dask.utils import parse_bytes

from curator_llm import config
from curator_llm.errors import ConfigurationError, JournalError
from curator_llm.journal.index import words
from curator_llm.journal.reader import SegmentReader, Wanted
from curator_llm.journal.segment import SegmentWriter, is_gone, journal_error
from curator_llm.wire.exchange import Record

FORMAT = 1
_FORMAT_WORDS = "curator-llm journal"
#: Also as pathlib leaves it, with one slash. A drive of Windows has one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

logger = logging.getLogger(__name__)


def default_directory() -> Path:
    """Return the directory used when none is given: ``curator-llm.journal.path``, else one in the user's cache.

    Raises
    ------
    ConfigurationError
        When the setting is the URL of an object store.
    """
    configured = config.get("journal.path")
    if configured:
        return _local(configured)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path.home() / ".cache"
        if sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        elif sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return base / "curator-llm" / "journal"


class Journal:
    """Records of requests in a directory that any number of processes share.

    Safe to use from several threads, but for `append`, `sync` and `close`: these belong to one thread. A forked child
    must open its own.

    Parameters
    ----------
    directory : str or Path
        Made if need be, readable by this user alone.
    run : str, optional
        The run that writes, noted at the head of segments.

    Raises
    ------
    ConfigurationError
        When the directory is the URL of an object store.
    JournalError
        When the directory cannot be used, or was written by a later version.

    Examples
    --------
    >>> import tempfile
    >>> from curator_llm.journal.record import embed
    >>> with tempfile.TemporaryDirectory() as directory, Journal(directory) as journal:
    ...     key = bytes(16)
    ...     journal.append(
    ...         [Record(key=key.hex(), op="chat/1", status="ok", final=True, attempts=1, at=0.0, reply=embed(b"{}"))]
    ...     )
    ...     journal.lookup([key])[key].status
    'ok'
    """

    def __init__(self, directory: str | Path, run: str | None = None) -> None:
        self.directory = _usable(directory)
        self._run = run
        self._pid = os.getpid()
        self._roll_bytes = parse_bytes(config.get("journal.roll-bytes"))
        self._roll_records = int(config.get("journal.roll-records"))
        self._readers: dict[str, SegmentReader] = {}  # by name, in order; replaced, never changed
        self._own: list[SegmentReader] = []
        self._writer: SegmentWriter | None = None
        self._closed = False
        self._publishing = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, Record]:
        """Return the final records of those keys that have one.

        Parameters
        ----------
        keys : iterable of bytes
            16 bytes each.

        Returns
        -------
        dict of bytes to Record
            A record that is damaged counts as none. A miss costs about 0.05 us per segment, a hit 10 to 30 us. When
            keys are missing, what other processes had written when the lookup began is taken into account.

        Raises
        ------
        JournalError
            When a segment is there and cannot be read.
        """
        self._check_process()
        began_at = time.monotonic()
        wanted = Wanted(keys)
        seen: dict[str, int] = {}
        found = self._find(wanted, seen)
        if wanted:
            with self._refreshing:
                if self._refreshed_at < began_at:  # lookups that waited for one refresh share it
                    self._refresh()
            found |= self._find(wanted, seen)
        return found

    def find_own(self, key: bytes) -> Record | None:
        """Return the final record this object appended for a key, or None; without I/O when there is none.

        Costs about 0.5 us, and as much again for each segment this object has filled.
        """
        reader_words = words(key)
        for reader in self._own:
            if reader.might_hold(key, reader_words):
                try:
                    found = reader.find(Wanted([key]))
                except OSError:
                    continue
                if found:
                    return found[key]
        return None

    def refresh(self) -> None:
        """Take into account what other processes have written until now.

        Raises
        ------
        JournalError
            When a segment is there and cannot be read.
        """
        self._check_process()
        with self._refreshing:
            self._refresh()

    def append(self, records: Sequence[Record]) -> None:
        """Write records, all or none; once it returns, every lookup finds those that are final.

        Survives the end of this process from then on, and that of the machine after `sync`.

        Parameters
        ----------
        records : sequence of Record

        Raises
        ------
        JournalError
            When they cannot be written; then none of them is.
        """
        self._check_process()
        if self._closed:
            msg = f"The journal {self.directory} is closed. Open it again."
            raise JournalError(msg)
        if not records:
            return
        keys = [bytes.fromhex(record.key) for record in records]
        if self._writer is not None and self._writer.full:
            self._seal()
        if self._writer is None:
            self._writer = SegmentWriter(self.directory, self._roll_bytes, self._roll_records, self._run)
            self._own = [*self._own, SegmentReader(self.directory, self._writer.path.name)]
            self._publish()
        places = self._writer.append(records)
        for key, record, place in zip(keys, records, places, strict=True):
            if record.final:
                self._own[-1].add(key, place)

    def sync(self) -> None:
        """Wait until everything appended is on the disk.

        Raises
        ------
        JournalError
            When the disk says no.
        """
        if self._writer is not None:
            self._writer.sync()

    def close(self) -> None:
        """Put everything on the disk and write the index of the open segment. Lookups still work; appending does not.

        Raises
        ------
        JournalError
            When the disk says no.
        """
        if not self._closed and self._pid == os.getpid():
            self._closed = True
            self._seal()

    def _find(self, wanted: Wanted, seen: dict[str, int]) -> dict[bytes, Record]:
        """Return what is known of the wanted, and take it out of them; readers seen before and as then are left out."""
        found: dict[bytes, Record] = {}
        for name, reader in self._readers.items():
            if not wanted:
                break
            version = reader.version
            if seen.get(name) == version:
                continue
            try:
                here = reader.find(wanted)
            except OSError as error:
                raise journal_error(error, "read", reader.path) from None
            seen[name] = version
            wanted.take_out(here)
            found |= here
        return found

    def _refresh(self) -> None:
        started_at = time.monotonic()
        folder = self.directory / "seg"
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(".jsonl") and entry.is_file()]
        except OSError as error:
            raise journal_error(error, "read", folder) from None
        own = {reader.path.name for reader in self._own}
        readers: dict[str, SegmentReader] = {}
        for name in names:
            if name not in own:
                reader = self._readers.get(name) or SegmentReader(self.directory, name)
                try:
                    reader.refresh()
                except PermissionError:
                    logger.warning("%s belongs to another user: its replies are not used.", reader.path)
                except OSError as error:
                    if not is_gone(error):
                        raise journal_error(error, "read", reader.path) from None
                else:
                    readers[name] = reader
        self._publish(readers)
        self._refreshed_at = started_at

    def _publish(self, readers: dict[str, SegmentReader] | None = None) -> None:
        """Let lookups see these readers, or those of before, and this object's own."""
        with self._publishing:
            known = (self._readers if readers is None else readers) | {reader.path.name: reader for reader in self._own}
            self._readers = dict(sorted(known.items()))

    def _seal(self) -> None:
        """End the open segment: on the disk, with its index."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.sync()
        finally:
            writer.close()
            if writer.count:
                self._own[-1].seal(writer.size_bytes)
            else:
                self._own = self._own[:-1]

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            msg = f"The journal {self.directory} was opened before this process was forked. Open it again here."
            raise JournalError(msg)


def _local(directory: str | Path) -> Path:
    if _URL.match(str(directory)):
        msg = (
            f"The journal cannot be kept at {directory}: object stores cannot append. Give a directory all workers "
            "share, on a file system; the dataset itself may lie in the object store."
        )
        raise ConfigurationError(msg)
    return Path(directory).expanduser().absolute()


def _usable(directory: str | Path) -> Path:
    """Return the directory, made ready."""
    path = _local(directory)
    try:
        for folder in (path, path / "seg", path / "idx"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _make_format(path / "FORMAT")
        check_format(path)
    except OSError as error:
        raise journal_error(error, "use the journal", path) from None
    return path


def _make_format(path: Path) -> None:
    if not path.exists():
        part = path.with_name(f"FORMAT.{uuid.uuid4().hex[:8]}.part")
        try:
            part.touch(mode=0o600)
            part.write_text(f"{_FORMAT_WORDS} {FORMAT}\n", encoding="ascii")
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def check_format(directory: Path) -> None:
    """Check that a directory is a journal of a version this package knows.

    Raises
    ------
    JournalError
        When it is not.
    """
    path = directory / "FORMAT"
    try:
        found = path.read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        msg = f"{directory} is no journal: give the directory that holds FORMAT, seg and idx."
        raise JournalError(msg) from None
    name, _, version = found.rpartition(" ")
    if name != _FORMAT_WORDS or not version.isdecimal():
        msg = f"{path} says {found[:80]!r}, so {directory} is not a journal: give another directory."
        raise JournalError(msg)
    if int(version) > FORMAT:
        msg = (
            f"{directory} was written by a later curator-llm (format {version}; this one reads up to {FORMAT}): "
            "upgrade curator-llm, or give another directory."
        )
        raise JournalError(msg)
