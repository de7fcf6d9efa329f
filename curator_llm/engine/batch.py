"""One partition's requests under way: the engine puts outcomes in, the partition's thread waits for them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from curator_llm.errors import CuratorLLMError, EngineError
from curator_llm.wire.exchange import Record, Skip

#: How often a waiting thread looks whether the engine still lives.
_LOOK_S = 1.0


class Batch:
    """Outcomes by slot. Thread-safe.

    Parameters
    ----------
    slots : sequence of int
        Which rows are waited for.
    ordinal : int
        Older batches go first.
    is_alive : callable
        Tells whether the engine can still put anything in.
    """

    def __init__(self, slots: Sequence[int], ordinal: int, is_alive: Callable[[], bool]) -> None:
        self.ordinal = ordinal
        self.cancelled = False
        self._is_alive = is_alive
        self._outcomes: dict[int, Record | Skip] = {}
        self._paid: list[Record] = []
        self._statuses: Counter[str] = Counter()
        self._missing = len(slots)
        self._error: CuratorLLMError | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        #: Set when the engine could use another partition's rows, or has ended this batch.
        self.low_water = threading.Event()
        if not slots:
            self._end()

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self._ended.is_set()

    @property
    def is_complete(self) -> bool:
        """Whether every row has its outcome."""
        return not self._missing

    @property
    def done(self) -> int:
        """How many rows have their outcome."""
        return len(self._outcomes)

    def put(self, slot: int, record: Record | Skip, *, is_paid: bool = True) -> None:
        """Put in a row's outcome, and whether this row is the one that paid for it; others share the reply."""
        with self._lock:
            if self._ended.is_set() or slot in self._outcomes:
                return
            self._outcomes[slot] = record
            self._statuses[record.status] += 1
            if is_paid and isinstance(record, Record):
                self._paid.append(record)
            self._missing -= 1
            if not self._missing:
                self._end()

    def fail(self, error: CuratorLLMError) -> None:
        """End the batch with an error; the first one counts."""
        with self._lock:
            if not self._ended.is_set():
                self._error = error
                self._end()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end, at most `timeout_s`; return whether it came. Fails the batch if the engine is gone."""
        if timeout_s is not None:
            return self._ended.wait(timeout_s)
        while not self._ended.wait(_LOOK_S):
            self.check_engine()
        return True

    def outcomes(self) -> dict[int, Record | Skip]:
        """Return the record of each slot, or why it was not asked.

        Raises
        ------
        CuratorLLMError
            What the batch ended with.
        """
        self.wait()
        if self._error is not None:
            # A copy: one error may end many batches, and each raise would extend one traceback.
            raise type(self._error)(*self._error.args) from None
        return self._outcomes

    def paid(self) -> list[Record]:
        """Return the records that were paid for by rows of this batch."""
        return self._paid

    def statuses(self) -> Counter[str]:
        """Return how many rows have their outcome, by status."""
        with self._lock:
            return self._statuses.copy()

    def check_engine(self) -> None:
        """Fail the batch if the engine is gone."""
        if not self._is_alive():
            msg = "The engine of this process ended before the rows were answered. Run again: replies are kept."
            self.fail(EngineError(msg))

    def _end(self) -> None:
        self._ended.set()
        self.low_water.set()
