"""The coordinator: keeps the lease books of all scopes on the scheduler, so that the cluster acts as one client.

Workers ask it by RPC alone: a message of a kind that the other side does not know would close a worker.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from distributed import Scheduler, SchedulerPlugin
from distributed.scheduler import WorkerState

from curator_llm.cluster.cluster_counts import ClusterCounts
from curator_llm.limits.allowance import PERMITS
from curator_llm.limits.lease_book import LeaseBook, Report

#: Of the messages between workers and coordinator. Another one: every worker has its static share.
VERSION = 1
#: Workers report once a second, or more seldom where there are many: the scheduler answers so many of them a second.
WORKERS_A_SECOND = 100
#: So many engines that have left are remembered.
MOST_LEFT = 1_000
SYNC, STATUS, LEAVE = "curator_llm_sync", "curator_llm_status", "curator_llm_leave"


class Coordinator(SchedulerPlugin):
    """Lease books by scope, and what each engine of the cluster has done."""

    name = "curator-llm"
    idempotent = True

    def __init__(self) -> None:
        self._books: dict[str, LeaseBook] = {}
        self._workers: dict[str, str] = {}  # by incarnation
        self._nannies: dict[str, str] = {}
        self._left: dict[str, None] = {}  # in the order they left
        self._counts = ClusterCounts()

    async def start(self, scheduler: Scheduler) -> None:  # with an await in here two could start
        """Take requests of workers and clients."""
        self._scheduler = scheduler
        scheduler.handlers.update({SYNC: self.sync, STATUS: self.status, LEAVE: self.leave})

    def sync(
        self,
        version: int,
        worker: str,
        incarnation: str,
        reports: dict[str, dict[str, Any]],
        seq: int,
        counts: dict[str, dict[str, float]],
    ) -> dict[str, Any] | None:
        """Take the reports of a worker's engine, by scope, and grant shares; None for another version's worker."""
        if version != VERSION:
            return None
        if incarnation in self._left:  # a report that was overtaken by the last one
            return {"grants": {}, "workers": len(self._scheduler.workers)}
        for other in [known for known, address in self._workers.items() if address == worker and known != incarnation]:
            self.leave(other)  # a worker has one engine: the other one has ended
        self._workers[incarnation] = worker
        self._counts.take(incarnation, seq, counts, time.monotonic())
        state = self._scheduler.workers.get(worker)
        if state is not None and state.nanny:
            self._nannies[incarnation] = state.nanny
        now, grants = time.monotonic(), {}
        for scope, said in reports.items():
            report = msgspec.convert(said, Report)
            book = self._books.setdefault(scope, LeaseBook({}))
            grant = book.sync(report, now, expected=len(self._scheduler.workers))
            if grant is not None:
                grants[scope] = msgspec.to_builtins(grant)
            if state is None:  # removed, and at work still: nobody says when it ends
                book.vanish(incarnation)
        return {"grants": grants, "workers": len(self._scheduler.workers)}

    def leave(self, incarnation: str, seq: int = 0, counts: dict[str, dict[str, float]] | None = None) -> None:
        """Take an engine off that has nothing in flight and starts nothing more; it says what it did at last."""
        if counts is not None:
            self._counts.take(incarnation, seq, counts, time.monotonic())
        self._counts.gone(incarnation)
        for scope, book in list(self._books.items()):
            book.leave(incarnation)
            if not book.members:
                del self._books[scope]
        self._workers.pop(incarnation, None)
        self._nannies.pop(incarnation, None)
        self._left[incarnation] = None
        if len(self._left) > MOST_LEFT:
            del self._left[next(iter(self._left))]

    def status(self) -> dict[str, Any]:
        """Return what all engines have done, those that are gone included, what they do now, and what they may do."""
        found = self._counts.status(time.monotonic(), interval_s=len(self._scheduler.workers) / WORKERS_A_SECOND)
        books = {
            scope: {
                "members": len(book.members),
                "limits": book.totals,
                "held": {name: book.held(name) for name in book.totals},
                "window": None if book.window.size == float("inf") else book.window.size,
            }
            for scope, book in self._books.items()
        }
        scopes = {scope: {**counts, **books.get(scope, {})} for scope, counts in found["scopes"].items()}
        return {**found, "version": VERSION, "scopes": scopes}

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Take off what a nanny's earlier process held: it has ended, or the nanny would not have started another."""
        nanny = scheduler.workers[worker].nanny
        for incarnation, known in list(self._nannies.items()):
            if nanny and known == nanny and self._workers[incarnation] != worker:
                self.leave(incarnation)

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[WorkerState]) -> list[WorkerState]:  # noqa: ARG002
        """Spare workers that have requests in flight when a cluster shrinks: these would be paid twice."""
        busy = {
            self._workers[incarnation]
            for book in self._books.values()
            for incarnation, member in book.members.items()
            if member.last.want.get(PERMITS) and incarnation in self._workers
        }
        return [worker for worker in workers if worker.address not in busy]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002  Dask's signature
        """Expect no more reports of a worker; it may be at work still, and report again."""
        for incarnation, address in self._workers.items():
            if address == worker:
                self._counts.gone(incarnation)
                for book in self._books.values():
                    book.vanish(incarnation)
