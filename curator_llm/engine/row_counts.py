"""How many rows the open partitions of an engine have, and how those of ended ones ended: what progress shows."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from curator_llm.engine.batch import Batch
from curator_llm.wire.exchange import Record, Skip


class OpenRows:
    """The rows of a partition at work.

    Parameters
    ----------
    rows : int
    known : iterable of Record or Skip
        Outcomes that were there before anything was asked.
    """

    def __init__(self, rows: int, known: Iterable[Record | Skip]) -> None:
        self.rows = rows
        self._known = Counter(outcome.status for outcome in known)
        #: What is asked for the others.
        self.batch: Batch | None = None

    @property
    def statuses(self) -> Counter[str]:
        """How many rows have an outcome, by status."""
        return self._known + (Counter() if self.batch is None else self.batch.statuses())


class RowCounts:
    """The rows of all partitions of an engine, by scope. Thread-safe.

    Examples
    --------
    >>> counts = RowCounts()
    >>> with counts.partition("a", 2, []) as rows:
    ...     counts.by_scope()
    {'a': {'open rows': 2}}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: dict[str, Counter[str]] = {}
        self._open: dict[OpenRows, str] = {}

    @contextmanager
    def partition(self, scope: str, rows: int, known: Iterable[Record | Skip]) -> Iterator[OpenRows]:
        """Count a partition as open while the context is, and its rows as ended when it ends without an error.

        One that fails or is taken elsewhere leaves nothing behind: its rows are counted where it runs again.
        """
        partition = OpenRows(rows, known)
        with self._lock:
            self._open[partition] = scope
        try:
            yield partition
        except BaseException:
            with self._lock:
                del self._open[partition]
            raise
        with self._lock:
            del self._open[partition]
            self._ended.setdefault(scope, Counter()).update(partition.statuses)

    def by_scope(self) -> dict[str, dict[str, float]]:
        """Return counts: ``rows STATUS`` of ended partitions; of open ones ``open rows``, ``open rows STATUS``."""
        with self._lock:
            found: dict[str, Counter[str]] = {
                scope: Counter({f"rows {status}": count for status, count in statuses.items()})
                for scope, statuses in self._ended.items()
            }
            for partition, scope in self._open.items():
                counts = found.setdefault(scope, Counter())
                counts["open rows"] += partition.rows
                for status, count in partition.statuses.items():
                    counts[f"open rows {status}"] += count
        return {scope: dict(counts) for scope, counts in found.items()}
