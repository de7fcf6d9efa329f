"""The worker plugin: ties an engine to the life of a Dask worker. The first task installs it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

from dask.typing import Key
from dask.utils import parse_bytes
from distributed import Worker, WorkerPlugin

from curator_llm import config, runtime
from curator_llm.cluster.journal_places import ToldPlaces
from curator_llm.cluster.leases import LeaseKeeper
from curator_llm.cluster.open_partitions import OpenPartitions
from curator_llm.cluster.stage_lines import lines_of_worker
from curator_llm.engine.engine import Engine

PLUGIN_NAME = "curator-llm"

_RPC_TIMEOUT_S = 10.0

_install_lock = threading.Lock()


class EnginePlugin(WorkerPlugin):
    """One engine per worker, started with the first rows and closed with the worker.

    Parameters
    ----------
    worker : distributed.Worker
    """

    name = PLUGIN_NAME
    idempotent = True

    def __init__(self, worker: Worker) -> None:
        # Dask lists a plugin before it sets it up, and other tasks find it there: all is ready by then.
        self._worker = worker
        most = int(config.get("engine.max-open-partitions"))
        self.open_partitions = OpenPartitions(most, worker.state.nthreads, _most_open_bytes(worker))
        self.lines = lines_of_worker(worker)
        self.places = ToldPlaces(worker)
        self.keeper = LeaseKeeper(worker)
        self._released: dict[Key, Callable[[], object]] = {}

    async def setup(self, worker: Worker) -> None:  # noqa: ARG002  Dask passes it by name
        """Begin to report to the coordinator."""
        self.keeper.start()

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002  Dask passes it by name
        """Send nothing more, let what is in flight end and be kept."""
        self.lines.flush(unfinished=True)
        await self.keeper.leave()

    def transition(self, key: Key, start: str, finish: str, **_: Any) -> None:
        """Tell a task that is at work that nobody wants it any more: Dask does not stop a running one."""
        if start in {"executing", "long-running"} and finish == "released" and key in self._released:
            self._released[key]()

    @contextlib.contextmanager
    def watched(self, key: Key, released: Callable[[], object]) -> Iterator[None]:
        """Call `released` when a task is released while the context is open."""
        self._released[key] = released
        try:
            yield
        finally:
            del self._released[key]

    def engine(self) -> Engine:
        """Return the worker's engine, which lives on what the coordinator grants."""
        engine = runtime.engine(self._worker)
        self.keeper.serve(engine)
        return engine


def plugin_of(worker: Worker) -> EnginePlugin:
    """Return the worker's plugin, installing it if it is not there. Called from task threads."""
    plugin: Any = worker.plugins.get(PLUGIN_NAME)
    if plugin is None:
        with _install_lock:
            plugin = worker.plugins.get(PLUGIN_NAME)
            if plugin is None:
                plugin = EnginePlugin(worker)
                _on_loop(worker, worker.plugin_add(plugin, name=PLUGIN_NAME, catch_errors=False))
    return plugin  # type: ignore[no-any-return]


def _most_open_bytes(worker: Any) -> float:
    """Return how large open partitions may be together: as configured, or a tenth of the worker's memory."""
    said = config.get("engine.max-open-bytes")
    if said is not None:
        return float(parse_bytes(said))
    limit = worker.memory_manager.memory_limit
    return limit / 10 if limit else math.inf


def _on_loop(worker: Any, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, worker.loop.asyncio_loop).result(_RPC_TIMEOUT_S)
