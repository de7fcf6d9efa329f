"""How many partitions a worker holds open: enough that the engine never starves, few enough that memory stays flat.

Dask opens one partition per thread. A task that leaves its thread (secedes) lets Dask open another one, so the number
of seceded tasks is what bounds the rest.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from curator_llm.engine.batch import Batch

#: How often a full worker looks whether another partition has ended.
_LOOK_S = 0.02


class Place:
    """An open partition."""

    def __init__(self, *, seceded: bool, size_bytes: int) -> None:
        self.seceded = seceded
        self.size_bytes = size_bytes


class OpenPartitions:
    """Counts the open partitions of a worker. Thread-safe.

    Parameters
    ----------
    most : int
        How many may be open at once; never fewer than threads.
    threads : int
        Of the worker.
    most_bytes : float
        How large they may be together; beyond that no further one is opened.
    """

    def __init__(self, most: int, threads: int, most_bytes: float = math.inf) -> None:
        self.peak = 0
        self._most_seceded = max(0, most - threads)
        self._most_bytes = most_bytes
        self._open = 0
        self._open_bytes = 0
        self._seceded = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self, *, seceded: bool, size_bytes: int = 0) -> Iterator[Place]:
        """Hold a partition open; `seceded` if its task has left its thread in an earlier stage."""
        place = Place(seceded=seceded, size_bytes=size_bytes)
        with self._lock:
            self._open += 1
            self._open_bytes += place.size_bytes
            self._seceded += place.seceded
            self.peak = max(self.peak, self._open)
        try:
            yield place
        finally:
            with self._lock:
                self._open -= 1
                self._open_bytes -= place.size_bytes
                self._seceded -= place.seceded

    def wait_for_room(self, place: Place, batch: Batch, check: Callable[[], object]) -> bool:
        """Wait until this task may leave its thread, unless `check` raises; False when the batch ended first."""
        while not batch.ended:
            check()
            with self._lock:
                if self._seceded < self._most_seceded and self._open_bytes < self._most_bytes:
                    self._seceded += 1
                    place.seceded = True
                    return True
            batch.wait(_LOOK_S)
        return False
