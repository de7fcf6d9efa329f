"""One partition as a Dask task: on a worker it makes room for the next partition while its rows are in flight."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import dask.config
from dask.sizeof import sizeof
from dask.system import CPU_COUNT

from curator_llm import runtime
from curator_llm.cluster.local_callers import anybody_waits, is_in_pool
from curator_llm.cluster.stage_lines import PartitionLines, here
from curator_llm.errors import EngineError
from curator_llm.frame.run_rows import Result, StageSpec, run_rows

if TYPE_CHECKING:
    import pandas as pd
    from dask.typing import Key
    from distributed import Worker

    from curator_llm.engine.batch import Batch

#: How often a waiting task looks whether it is still wanted.
_LOOK_S = 0.5

_thread = threading.local()


def current_worker() -> Worker | None:
    """Return the worker that runs this task; None on Dask's local schedulers and outside Dask."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def in_dask_task() -> bool:
    """Tell whether a pandas frame is a partition of some Dask run, as far as that can be seen."""
    return (
        current_worker() is not None
        or multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )


def run_partition(frame: pd.DataFrame, spec: StageSpec, worker: Worker | None) -> Result:
    """Answer a partition's rows with the engine of this worker, or of this process."""
    if worker is None:
        engine = runtime.engine()
        if multiprocessing.parent_process() is not None:
            engine.set_share(0, _pool_size())  # the processes of Dask's pool know nothing of each other
        with here.partition(spec, engine) as watch:
            return run_rows(frame, spec, engine, wait=lambda batch: _wait_here(batch, watch), watch=watch)
    from distributed.metrics import context_meter

    from curator_llm.cluster.plugin import plugin_of

    plugin = plugin_of(worker)
    engine = plugin.engine()

    with (
        plugin.open_partitions.one(seceded=_has_seceded(worker), size_bytes=sizeof(frame)) as place,
        plugin.lines.partition(spec, engine) as watch,
    ):
        task = worker.get_current_task()

        def wait(batch: Batch) -> None:
            plugin.places.tell(spec.output, spec.journal_directory())
            check = partial(_check, batch, worker, task)
            with plugin.watched(task, partial(engine.cancel, batch)), context_meter.meter("llm-wait"):
                _wait(batch.low_water.wait, check)
                if not place.seceded and plugin.open_partitions.wait_for_room(place, batch, check):
                    _secede(worker)
                _wait(batch.wait, check)
            check()

        result = run_rows(frame, spec, engine, wait=wait, watch=watch)
        tokens = sum((record.input_tokens or 0) + (record.output_tokens or 0) for record in result.paid)
        context_meter.digest_metric("llm", tokens, "tokens")  # a number of Dask's dashboard, as the wait is
        return result


def _wait_here(batch: Batch, watch: PartitionLines | None) -> None:
    """Wait, unless the caller has gone, as after Ctrl-C: the pool goes on by itself, and its rows cost money."""
    # A process of Dask's pool cannot see who waits; it ends with its parent.
    looks = is_in_pool() and multiprocessing.parent_process() is None
    while not batch.wait(_LOOK_S):
        batch.check_engine()
        if looks and not anybody_waits():
            if watch is not None:
                watch.abandoned()
            msg = "Nobody waits for this partition any more. Compute again: replies that came are kept."
            raise EngineError(msg)


def _wait(arrived: Callable[[float], bool], check: Callable[[], object]) -> None:
    while not arrived(_LOOK_S):
        check()


def _check(batch: Batch, worker: Worker, task: Key) -> None:
    """Leave the task if nobody wants it any more: Dask does not stop a running one, and its rows cost money."""
    from distributed import Reschedule

    batch.check_engine()
    state = worker.state.tasks.get(task)
    # One that was released, and is wanted again since, runs anew: the replies that came are kept.
    if batch.cancelled or state is None or state.state == "cancelled":
        raise Reschedule


def _has_seceded(worker: Worker) -> bool:
    return getattr(_thread, "seceded", None) == worker.get_current_task()


def _secede(worker: Worker) -> None:
    """Leave the thread pool, once per task: Dask starts the next partition. Two chained stages run as one task."""
    from distributed import secede

    _thread.seceded = worker.get_current_task()
    secede()


def _pool_size() -> int:
    return int(dask.config.get("num_workers", None) or CPU_COUNT)
