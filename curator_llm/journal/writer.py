"""The thread that writes: what was put since the last write goes to the journal at once, and only then to who waits."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from curator_llm import config
from curator_llm.config import parse_duration
from curator_llm.errors import JournalError
from curator_llm.journal.store import Journal
from curator_llm.wire.exchange import Record

#: A record, and whatever its owner wants back with it.
T = TypeVar("T", bound=tuple[Record, Any])

_ENDED = "The journal's writer has ended. Run again: replies stored so far are kept."

logger = logging.getLogger(__name__)


class JournalWriter(Generic[T]):
    """Appends records off the caller's thread, in batches of what has come together.

    Every item that is put ends in exactly one call of `deliver` or `failed`, unless these raise. The thread starts with
    the first item.

    Parameters
    ----------
    journal : Journal or None
        The caller keeps it, and closes it after this. None keeps nothing: items are delivered at once, by `put`.
    deliver : callable
        Takes the items of a batch once they are in the journal. Called on the writer's thread.
    failed : callable
        Takes the error and the items that are not in the journal; no items when what was written may not have reached
        the disk. Called on the writer's thread, or by `put` when that has ended.

    Examples
    --------
    >>> from curator_llm.journal.record import embed
    >>> record = Record(key="0" * 32, op="chat/1", status="ok", final=True, attempts=1, at=0.0, reply=embed(b"{}"))
    >>> writer = JournalWriter(None, deliver=print, failed=print)
    >>> writer.put((record, "row 7"))
    [(Record(...), 'row 7')]
    """

    def __init__(
        self,
        journal: Journal | None,
        deliver: Callable[[list[T]], None],
        failed: Callable[[JournalError, list[T]], None],
    ) -> None:
        self._journal = journal
        self._deliver = deliver
        self._failed = failed
        self._sync_interval_s = parse_duration(config.get("journal.sync-interval"), "journal.sync-interval")
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()  # None ends the thread
        self._sync_due_at: float | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    def put(self, item: T) -> None:
        """Take an item and return at once; in the order of the calls of one thread.

        Parameters
        ----------
        item : tuple
            A `Record` and anything else.
        """
        if self._journal is None:
            self._deliver([item])
            return
        with self._lock:
            accepted = not self._closed and self._running(self._journal)
            if accepted:
                self._queue.put(item)
        if not accepted:
            self._give_up(JournalError(_ENDED), [item])

    def close(self) -> None:
        """Write and sync what was put, deliver it, and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _running(self, journal: Journal) -> bool:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(journal,), name="curator-llm journal", daemon=True)
            self._thread.start()
        return self._thread.is_alive()  # false in a forked child

    def _run(self, journal: Journal) -> None:
        batch: list[T] = []
        message = _ENDED
        try:
            open_ = True
            while open_:
                batch, open_ = self._next_batch()
                if batch:
                    self._append(journal, batch)
                    batch = []
                self._sync(journal, at_once=not open_)
        except BaseException as error:  # nobody may wait for a dead thread
            message = f"The journal's writer failed: {type(error).__name__}: {error}. Please report this."
            logger.exception("the journal's writer failed")
        finally:
            with self._lock:
                self._closed = True
            while not self._queue.empty():
                item = self._queue.get()
                batch += [] if item is None else [item]
            if batch:
                self._give_up(JournalError(message), batch)

    def _next_batch(self) -> tuple[list[T], bool]:
        """Return all that is queued, waiting for the first of it until a sync is due, and whether more may come."""
        batch: list[T] = []
        wait_s = None if self._sync_due_at is None else max(0.0, self._sync_due_at - time.monotonic())
        try:
            item = self._queue.get(timeout=wait_s)
            while item is not None:
                batch.append(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _append(self, journal: Journal, batch: list[T]) -> None:
        try:
            journal.append([item[0] for item in batch])
        except Exception as error:  # noqa: BLE001  the thread lives on, and who waits is told
            self._give_up(error, batch)
            return
        if self._sync_due_at is None:
            self._sync_due_at = time.monotonic() + self._sync_interval_s
        try:
            self._deliver(batch)
        except Exception as error:
            logger.exception("records are in the journal, but could not be delivered")
            self._give_up(error, batch)

    def _sync(self, journal: Journal, *, at_once: bool) -> None:
        if self._sync_due_at is None or (time.monotonic() < self._sync_due_at and not at_once):
            return
        self._sync_due_at = None
        try:
            journal.sync()
        except JournalError as error:
            self._give_up(error, [])

    def _give_up(self, error: Exception, batch: list[T]) -> None:
        if not isinstance(error, JournalError):
            error = JournalError(f"The journal failed: {type(error).__name__}: {error}. Please report this.")
        try:
            self._failed(error, batch)
        except Exception:
            logger.exception("%d records were not kept, and nobody could be told", len(batch))
