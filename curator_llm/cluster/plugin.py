"""The worker plugin: ties an engine to the life of a Dask worker. The first task installs it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, cast

from distributed import Worker, WorkerPlugin

from curator_llm import config, runtime
from curator_llm.cluster.journal_places import ToldPlaces
from curator_llm.cluster.open_partitions import OpenPartitions
from curator_llm.cluster.stage_lines import lines_of_worker
from curator_llm.engine.engine import Engine
from curator_llm.errors import EngineError

PLUGIN_NAME = "curator-llm"

#: How often a worker asks how many there are.
SHARE_REFRESH_S = 2.0
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
        self.open_partitions = OpenPartitions(most, worker.state.nthreads)
        self.lines = lines_of_worker(worker)
        self.places = ToldPlaces(worker)
        self._share_at = -SHARE_REFRESH_S
        self._share: tuple[int, int] | None = None
        self._sharing = threading.Lock()

    async def teardown(self, worker: Worker) -> None:
        """Send nothing more, let what is in flight end and be kept."""
        self.lines.flush(unfinished=True)
        await asyncio.to_thread(runtime.close, worker)

    def engine(self) -> Engine:
        """Return the worker's engine, its share of the limits brought up to date.

        Raises
        ------
        EngineError
            When the scheduler does not say how many workers there are: without a share the limits would not hold.
        """
        engine = runtime.engine(self._worker)
        with self._sharing:  # no thread goes on with the whole cap while another one asks
            if time.monotonic() - self._share_at >= SHARE_REFRESH_S:
                try:
                    self._share = _rank_and_count(self._worker)
                except (TimeoutError, OSError):
                    if self._share is None:
                        msg = "The scheduler did not say how many workers there are. Run again: replies are kept."
                        raise EngineError(msg) from None
                self._share_at = time.monotonic()
            engine.set_share(*cast("tuple[int, int]", self._share))
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


def _rank_and_count(worker: Any) -> tuple[int, int]:
    """Return this worker's place among all workers, which makes the shares add up to the cap."""
    identity = _on_loop(worker, worker.scheduler.identity())
    addresses = sorted({*identity["workers"], worker.address})
    return addresses.index(worker.address), len(addresses)


def _on_loop(worker: Any, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, worker.loop.asyncio_loop).result(_RPC_TIMEOUT_S)
