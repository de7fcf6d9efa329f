"""A worker's side of the leases: carries reports to the coordinator and grants back, about once a second.

It runs on the worker's own loop, where messages to the scheduler have to be sent; the engine has another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from distributed import Worker
from distributed.protocol.pickle import dumps

from curator_llm import __version__, runtime
from curator_llm.cluster.coordinator import LEAVE, SYNC, VERSION, WORKERS_A_SECOND, Coordinator
from curator_llm.engine.engine import Engine
from curator_llm.engine.leases import Leases
from curator_llm.limits.lease_book import Grant

#: How often a worker reports where there are few.
INTERVAL_S = 1.0
#: It reports after a quarter of that when a share has to move.
EARLY = 0.25
#: How long rows wait for the first grant, until the worker uses its static share.
FIRST_GRANT_S = 2.0
#: A scheduler that refused is asked again after this time.
REFUSED_S = 60.0
_RPC_TIMEOUT_S = 10.0

_T = TypeVar("_T")

log = logging.getLogger("distributed.curator_llm")


class LeaseKeeper:
    """Keeps the engine of a worker in the books.

    Parameters
    ----------
    worker : distributed.Worker
    """

    def __init__(self, worker: Worker) -> None:
        self._worker: Any = worker
        self._engine: Engine | None = None
        self._leases: Leases | None = None
        self._served_at = 0.0
        self._granted = False
        self._registered = self._warned = False
        self._register_at = float("-inf")
        self._workers = 1
        self._seq = 0
        self._synced_at = float("-inf")
        self._needed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; on the worker's loop."""
        self._task = asyncio.create_task(self._run())

    def serve(self, engine: Engine) -> None:
        """Let an engine live on grants. Thread-safe."""
        if engine is not self._engine:
            self._granted, self._served_at = False, time.monotonic()
            self._leases = engine.lease(self._need)
            self._engine = engine
            self._need()

    async def leave(self) -> None:
        """End the engine, and give back what it held."""
        if self._leases is not None:
            self._leases.leaving = True
        await asyncio.to_thread(runtime.close, self._worker)
        if self._task is not None:
            self._task.cancel()
        if self._engine is not None and self._leases is not None and self._registered:
            last = {"seq": self._seq + 1, "counts": self._engine.counts()}
            with contextlib.suppress(Exception):  # a scheduler that is gone has no books
                await self._call(LEAVE, incarnation=self._leases.incarnation, **last)

    def _need(self) -> None:
        """Say that there are new rows. Called from task threads."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._worker.loop.asyncio_loop.call_soon_threadsafe(self._needed.set)

    @property
    def _interval_s(self) -> float:
        return max(INTERVAL_S, self._workers / WORKERS_A_SECOND)

    async def _run(self) -> None:
        while True:
            await self._until_due()
            engine, leases = self._engine, self._leases
            self._needed.clear()
            self._synced_at = time.monotonic()
            if engine is None or leases is None or not engine.alive:
                continue
            if self._worker.status.name == "closing_gracefully":
                leases.leaving = True
            try:
                if self._registered or time.monotonic() >= self._register_at:
                    await self._register()
                    await self._sync(engine, leases)
                else:
                    await self._fall_back(engine)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  a scheduler may refuse in many ways; rows go on
                await self._fall_back(engine, f"{type(error).__name__}: {error}")

    async def _until_due(self) -> None:
        """Wait until a report is due: about once a second, or earlier when a share has to move."""
        if self._engine is None:
            await self._needed.wait()
            return
        due = self._synced_at + self._interval_s * random.uniform(0.9, 1.1)  # noqa: S311  workers are not in step
        early = self._synced_at + EARLY * self._interval_s
        while (now := time.monotonic()) < due:
            leases = self._leases
            is_needed = self._needed.is_set() or (leases is not None and leases.waits)
            if is_needed and now >= early:
                return
            with contextlib.suppress(TimeoutError):
                if is_needed:
                    await asyncio.sleep(early - now)
                else:
                    await asyncio.wait_for(self._needed.wait(), min(due - now, EARLY * self._interval_s))

    async def _register(self) -> None:
        if self._registered:
            return
        arguments = {"plugin": dumps(Coordinator()), "name": Coordinator.name, "idempotent": True}
        try:
            await self._call("register_scheduler_plugin", **arguments)
        except (TimeoutError, OSError):
            raise  # it is busy, or cannot be reached
        except Exception:
            self._register_at = time.monotonic() + REFUSED_S
            raise
        self._registered = True

    async def _sync(self, engine: Engine, leases: Leases) -> None:
        """Report once, and take what is granted."""
        reports = await _on_engine(engine, lambda: leases.report(interval_s=self._interval_s))
        seq = self._seq = next((report.seq for report in reports.values()), 0)
        sent_at = time.monotonic()
        answer = await self._call(
            SYNC,
            version=VERSION,
            worker=self._worker.address,
            incarnation=leases.incarnation,
            reports=msgspec.to_builtins(reports),
            seq=seq,
            counts=engine.counts(),
        )
        if answer is None:
            self._registered = False
            msg = "its coordinator is of another version, or has gone"
            raise LookupError(msg)
        self._workers = answer["workers"]
        grants = {scope: msgspec.convert(grant, Grant) for scope, grant in answer["grants"].items()}
        if grants:
            self._granted = True
            await _on_engine(engine, lambda: leases.take(seq, grants, sent_at))

    async def _fall_back(self, engine: Engine, reason: str = "") -> None:
        """Use the static share: no coordinator answers, and the limits have to hold all the same.

        What was granted once is good for a while, and a coordinator that does not answer may do so next time.
        """
        is_refused = time.monotonic() < self._register_at
        if self._granted or (not is_refused and time.monotonic() - self._served_at < FIRST_GRANT_S):
            return
        with contextlib.suppress(OSError, TimeoutError):  # without the number of workers the limits would not hold
            workers = sorted({*(await self._call("identity"))["workers"], self._worker.address})
            engine.set_share(workers.index(self._worker.address), len(workers))
            if not self._warned:
                self._warned = True
                log.warning(
                    "The scheduler does not coordinate the workers' limits (%s): each of the %d workers uses its even "
                    "share, also while others are idle. Install curator-llm where the scheduler runs: "
                    "pip install curator-llm==%s",
                    reason,
                    len(workers),
                    __version__,
                )

    async def _call(self, name: str, /, **arguments: Any) -> Any:
        """Ask the scheduler."""
        limit_s = _RPC_TIMEOUT_S if self._granted else FIRST_GRANT_S
        return await asyncio.wait_for(getattr(self._worker.scheduler, name)(**arguments), limit_s)


async def _on_engine(engine: Engine, function: Callable[[], _T]) -> _T:
    """Call a function on the engine's loop; one that ends meanwhile does not call it any more."""
    return await asyncio.wait_for(asyncio.wrap_future(engine.on_loop(function)), _RPC_TIMEOUT_S)
