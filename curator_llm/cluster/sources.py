"""Where progress comes from: the coordinator of a cluster, its workers where it has none, or this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from curator_llm import runtime
from curator_llm.cluster.cluster_counts import ClusterCounts

if TYPE_CHECKING:
    from distributed import Client

#: Counts by scope, by engine.
ByEngine = dict[str, dict[str, dict[str, float]]]


class Source(Protocol):
    """Gives what is known now."""

    def status(self) -> dict[str, Any]:
        """Return what `ClusterCounts.status` does."""


class Here:
    """The engine of this process."""

    def __init__(self) -> None:
        self._counts = ClusterCounts()
        self._looks = 0

    def status(self) -> dict[str, Any]:
        """Return what it did and does."""
        status = self._taken(runtime.counts(of_workers=False))
        for scope, limits in runtime.limits().items():
            if scope in status["scopes"]:
                status["scopes"][scope]["limits"] = limits
        return status

    def _taken(self, answers: ByEngine) -> dict[str, Any]:
        self._looks += 1
        now = time.monotonic()
        for engine, counts in answers.items():
            self._counts.take(engine, self._looks, counts, now)
        for engine in self._counts.engines - set(answers):
            self._counts.gone(engine)
        return self._counts.status(now)


class Workers(Here):
    """The workers of a cluster, each asked; one that does not answer in time counts with what it said last.

    Parameters
    ----------
    client : distributed.Client
    timeout_s : float
    """

    def __init__(self, client: Client, timeout_s: float) -> None:
        super().__init__()
        self._client = client
        self._timeout_s = timeout_s

    def status(self) -> dict[str, Any]:
        """Ask all workers."""

        async def ask() -> dict[str, ByEngine]:
            # on the client's own loop `run` is a coroutine, which a timeout can end
            return await asyncio.wait_for(self._client.run(_counts_of_workers, on_error="ignore"), self._timeout_s)

        answers: dict[str, ByEngine] = {}
        with contextlib.suppress(Exception):
            answers = self._client.sync(ask, asynchronous=False)
        return self._taken({engine: counts for answer in answers.values() for engine, counts in answer.items()})


class Cluster:
    """The coordinator of a cluster, asked by one call; its workers where it cannot be had.

    Parameters
    ----------
    client : distributed.Client
    timeout_s : float
    """

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._workers: Workers | None = None
        self._is_registered = False
        self._last: dict[str, Any] = {"engines": 0, "recent_s": 0.0, "scopes": {}}

    def status(self) -> dict[str, Any]:
        """Ask once; where nobody answers in time, return what was known, with nothing in flight."""
        from curator_llm.cluster.coordinator import VERSION

        if self._workers is not None:
            return self._workers.status()
        try:
            answer = self._client.sync(self._ask, asynchronous=False)
            is_usable = answer is not None and answer["version"] == VERSION
        except (TimeoutError, OSError):
            return _still(self._last)
        except Exception:  # noqa: BLE001  a scheduler may refuse plugins in many ways
            if self._client.status != "running":
                return _still(self._last)
            is_usable = False
        if not is_usable:
            self._workers = Workers(self._client, self._timeout_s)
            return self._workers.status()
        self._last = answer
        return self._last

    async def _ask(self) -> dict[str, Any] | None:
        from distributed.protocol.pickle import dumps

        from curator_llm.cluster.coordinator import STATUS, Coordinator

        scheduler: Any = self._client.scheduler
        async with asyncio.timeout(self._timeout_s):
            if not self._is_registered:  # a scheduler without one would log each question as an error
                arguments = {"plugin": dumps(Coordinator()), "name": Coordinator.name, "idempotent": True}
                await scheduler.register_scheduler_plugin(**arguments)
                self._is_registered = True
            return await getattr(scheduler, STATUS)()  # type: ignore[no-any-return]  # Dask's calls have no types


def _still(status: dict[str, Any]) -> dict[str, Any]:
    """Return a status of which nothing goes on."""
    scopes = {name: {**said, "levels": {}, "recent": {}} for name, said in status["scopes"].items()}
    return {**status, "engines": 0, "scopes": scopes}


def _counts_of_workers() -> ByEngine:
    return runtime.counts(of_workers=True)
