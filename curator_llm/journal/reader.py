"""What a process knows of one segment: an index of its first part, and a dict of the rest, which may still grow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from curator_llm.journal.index import DamagedIndexError, Index, Place, Words, read_at, write_index
from curator_llm.journal.record import decode
from curator_llm.journal.segment import Scan, is_gone
from curator_llm.wire.exchange import Record

#: A segment somebody left without an index is given one if it has so many records that reading it takes longer.
_WORTH_AN_INDEX = 1000
#: A last line that is not whole after so long was cut: its writer was killed, or the disk was full.
_CUT_AFTER_S = 60.0

logger = logging.getLogger(__name__)


class Wanted:
    """Keys that are looked for in one segment after the other.

    Parameters
    ----------
    keys : iterable of bytes
        16 bytes each.
    """

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._set(keys)

    def _set(self, keys: Iterable[bytes]) -> None:
        self._names = list(dict.fromkeys(keys))
        self.keys = set(self._names)
        self.words = np.frombuffer(b"".join(self._names), dtype="<u4").reshape(-1, 4)

    def __len__(self) -> int:
        return len(self._names)

    def at(self, rows: np.ndarray) -> list[bytes]:
        """Return the keys of rows of `words`."""
        return [self._names[row] for row in rows.tolist()]

    def take_out(self, found: Collection[bytes]) -> None:
        """Look no more for these."""
        if found:
            self._set(key for key in self._names if key not in found)


class SegmentReader:
    """Finds the final records of a segment; safe to use from several threads.

    Parameters
    ----------
    directory : Path
        Of the journal.
    name : str
        File name of the segment.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / "seg" / name
        self._index_path = directory / "idx" / f"{name}.idx"
        # Replaced as one, so that readers need no lock; the dict only grows.
        self._known: tuple[Index | None, dict[bytes, Place]] = (None, {})
        self._position = 0
        self._stamp: tuple[int, int] | None = None
        self._grows_here = False
        self._damaged = 0
        #: Goes on when what is known here changes.
        self.version = 0
        self._lock = threading.Lock()

    def add(self, key: bytes, place: Place) -> None:
        """Take note of a final record that this process wrote."""
        self._grows_here = True
        self._known[1].setdefault(key, place)
        self.version += 1

    def seal(self, covers: int, *, complete: bool = True) -> None:
        """Write the index of the first `covers` bytes, all of which are known, and let go of the dict."""
        places = self._known[1]
        self._grows_here = False
        try:
            write_index(self._index_path, places, segment=self.path.name, covers=covers, complete=complete)
        except OSError as error:
            logger.debug("no index for %s: %s", self.path, error)
            return
        index = Index.open(self._index_path, self.path.name)
        if index is not None:
            self._known, self._position = (index, {}), covers

    def refresh(self) -> None:
        """Read what was added since the last time.

        Raises
        ------
        OSError
            When the segment cannot be read.
        """
        with self._lock:
            new, before = not self._position, (self._position, self._stamp)
            self._load_index()
            index, places = self._known
            if index is None or not index.complete:
                self._scan(self._position, places)
                if new and len(places) >= _WORTH_AN_INDEX:
                    if index is None:
                        self.seal(self._position, complete=False)
                    else:
                        self._read_anew()
            self.version += before != (self._position, self._stamp)

    def might_hold(self, key: bytes, words: Words) -> bool:
        """Whether it is worth asking `find`; costs no I/O."""
        index, places = self._known
        return key in places or (index is not None and index.might_hold(words))

    def find(self, wanted: Wanted) -> dict[bytes, Record]:
        """Return the first final record of each key that is here and undamaged.

        Raises
        ------
        OSError
            When the segment is there but cannot be read.
        """
        try:
            found, all_good = self._read(self._places(wanted))
            if not all_good and not self._grows_here:  # what lies behind a damage may have moved
                with self._lock:
                    self._read_anew()
                found, _ = self._read(self._places(wanted))
        except OSError as error:
            if not is_gone(error):
                raise
            found = {}
        return found

    def _read(self, places: Mapping[bytes, Place]) -> tuple[dict[bytes, Record], bool]:
        """Return the records at these places, and whether all of them are as they were written."""
        found: dict[bytes, Record] = {}
        if places:
            with self.path.open("rb", buffering=0) as file:
                for key, (offset, length) in places.items():
                    record = decode(read_at(file, offset, length))
                    if record is not None and record.final and record.key == key.hex():
                        found[key] = record
        return found, len(found) == len(places)

    def _places(self, wanted: Wanted) -> dict[bytes, Place]:
        index, known = self._known
        places = {key: known[key] for key in wanted.keys & known.keys()} if known else {}
        likely = [] if index is None else wanted.at(index.which_might_hold(wanted.words))
        if index is None or not likely:
            return places
        try:
            return places | index.find(likely)
        except (DamagedIndexError, OSError):
            with self._lock:
                if self._known[0] is index:
                    self._read_anew()
            return self._places(wanted)

    def _load_index(self) -> None:
        try:
            status = self._index_path.stat()
        except OSError:
            return
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        index = Index.open(self._index_path, self.path.name)
        known, places = self._known
        if index is None or not self._is_of_this_segment(index):
            return
        if known is not None and index.covers <= known.covers and not index.complete:
            return
        rest = {key: place for key, place in places.items() if place[0] >= index.covers}
        self._known, self._position = (index, rest), max(index.covers, self._position)

    def _is_of_this_segment(self, index: Index) -> bool:
        """Whether the segment is as long as its index says; one that was cut or replaced is not."""
        size_bytes = self.path.stat().st_size
        return size_bytes == index.covers if index.complete else size_bytes >= index.covers

    def _read_anew(self) -> None:
        """Learn everything from the segment alone, and give it a new index if it had one."""
        places: dict[bytes, Place] = {}
        old = self._known[0]
        self._scan(0, places)
        self._known = (None, places)
        self.version += 1
        if old is not None:
            covers = self.path.stat().st_size if old.complete else self._position
            self.seal(covers, complete=old.complete)

    def _scan(self, start: int, places: dict[bytes, Place]) -> None:
        scan = Scan(self.path, start)
        for offset, line, record in scan:
            if record.final:
                places.setdefault(bytes.fromhex(record.key), (offset, len(line)))
        self._position = scan.position
        status = self.path.stat()
        is_cut = status.st_size > scan.position and time.time() - status.st_mtime > _CUT_AFTER_S
        damaged = scan.damaged + is_cut + (self._damaged if start else 0)
        if damaged > self._damaged:
            lines = "1 damaged line: its row is" if damaged == 1 else f"{damaged:,} damaged lines: their rows are"
            logger.warning("%s: %s asked again.", self.path, lines)
        self._damaged = damaged
