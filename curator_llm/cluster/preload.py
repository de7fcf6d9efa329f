"""For the command lines of schedulers and workers: ``dask worker --preload curator_llm.cluster.preload``.

Nothing needs it: the first rows on a worker install the same. With it the imports are done before the first rows come.
"""

from __future__ import annotations

from distributed import Scheduler, Worker

from curator_llm.cluster.coordinator import Coordinator
from curator_llm.cluster.plugin import PLUGIN_NAME, EnginePlugin


async def dask_setup(server: Scheduler | Worker) -> None:
    """Install what a scheduler or a worker needs; Dask calls it when they start."""
    if isinstance(server, Scheduler):
        server.add_plugin(Coordinator(), name=Coordinator.name, idempotent=True)  # starts with the scheduler
    elif isinstance(server, Worker):
        await server.plugin_add(EnginePlugin(server), name=PLUGIN_NAME, catch_errors=False)
