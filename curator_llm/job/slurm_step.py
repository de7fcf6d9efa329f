"""``srun -n 6 curator-llm run job.yaml``: the tasks of one SLURM step are a scheduler, the driver, and workers.

The scheduler ends with the driver, however that ends, and the workers with the scheduler: no task is left to burn its
allocation.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.file.cluster import RunningCluster
from curator_llm.job.interrupts import SIGNALS

if TYPE_CHECKING:
    from distributed import Scheduler

#: Scheduler, driver, worker.
_FEWEST_TASKS = 3
_SCHEDULER, _DRIVER = 0, 1
#: So long the tasks of a step may take to start, one after the other.
_START_S = 60.0
_DRIVERS_CLIENT = "curator-llm-driver"


@dataclass(frozen=True)
class SlurmStep:
    """A step of so many tasks, and the one of them that this process is.

    Parameters
    ----------
    name : str
        Of this step alone, also when its job is requeued under its old number.
    rank, tasks : int
    cpus : int or None
        Of a task, if it was said.
    """

    name: str
    rank: int
    tasks: int
    cpus: int | None

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> SlurmStep | None:
        """Return the step of this process, if it has tasks enough.

        A batch script is told of as many tasks, and is one process all the same: only a step numbers those it has.

        Examples
        --------
        >>> at = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
        >>> SlurmStep.here(at)
        SlurmStep(name='7.0', rank=1, tasks=4, cpus=None)
        >>> SlurmStep.here({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
        True
        """
        try:
            name = f"{int(environ['SLURM_JOB_ID'])}.{int(environ['SLURM_STEP_ID'])}"
            rank, tasks = int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"])
        except (KeyError, ValueError):
            return None
        if tasks < _FEWEST_TASKS:
            return None
        restarts = environ.get("SLURM_RESTART_COUNT", "0")
        cpus = environ.get("SLURM_CPUS_PER_TASK", "")
        return cls(
            name if restarts == "0" else f"{name}.{restarts}", rank, tasks, int(cpus) if cpus.isdecimal() else None
        )

    @property
    def is_driver(self) -> bool:
        """Whether this task drives the run."""
        return self.rank == _DRIVER

    @property
    def scheduler_file(self) -> Path:
        """Where its scheduler says its address: in the current directory, which the nodes of a step share."""
        return Path(f"scheduler-{self.name}.json")

    def serve(self) -> None:
        """Be the scheduler, or a worker, until the driver ends.

        Signals to stop are for the driver alone, which lets what is in flight end: SLURM sends them to every task.

        Raises
        ------
        ConfigurationError
            When dask-jobqueue is not installed.
        """
        _check_installed()
        from dask_jobqueue.slurm import SLURMRunner

        from curator_llm.job.attach import address_in

        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # A worker that comes when all is over finds no scheduler: it has nothing to do, and no code of its own to give.
        with contextlib.suppress(RunError, TimeoutError, RuntimeError) if self.rank != _SCHEDULER else nullcontext():
            if self.rank != _SCHEDULER:
                address_in(self.scheduler_file)
            SLURMRunner(  # type: ignore[no-untyped-call]
                scheduler_file=str(self.scheduler_file),
                scheduler_options={"dashboard_address": ":0", "plugins": [_ends_with_driver()]},
                worker_options={"nthreads": self.cpus or 2, "death_timeout": _START_S},
            )

    @contextlib.contextmanager
    def cluster(self) -> Iterator[RunningCluster]:
        """Give the cluster of the other tasks, which end when the context does.

        Raises
        ------
        ConfigurationError
            When dask-jobqueue is not installed.
        RunError
            When no scheduler says its address.
        """
        _check_installed()
        from distributed import Client

        from curator_llm.job.attach import address_in

        address = address_in(self.scheduler_file)
        started = time.monotonic()
        with Client(address, name=_DRIVERS_CLIENT, set_as_default=False) as client:
            try:
                yield RunningCluster(
                    address, is_own=True, why=f"as the {self.tasks} tasks of SLURM step {self.name} say"
                )
            finally:  # workers that are about to come would wait for a scheduler that is gone
                left_s = max(started + _START_S - time.monotonic(), 0.1)
                with contextlib.suppress(Exception):
                    client.wait_for_workers(self.tasks - _FEWEST_TASKS + 1, timeout=left_s)


def _check_installed() -> None:
    if importlib.util.find_spec("dask_jobqueue") is None:
        msg = (
            "The tasks of a SLURM step become a cluster with dask-jobqueue, which is not installed: "
            "pip install 'curator-llm[slurm]', or name a cluster with --scheduler or --scheduler-file."
        )
        raise ConfigurationError(msg)


def _ends_with_driver() -> Any:
    from distributed import SchedulerPlugin

    class EndsWithDriver(SchedulerPlugin):
        """Ends the scheduler when the driver is gone."""

        name = "curator-llm-ends-with-driver"

        def remove_client(self, scheduler: Scheduler, client: str) -> None:
            if client.startswith(f"Client-{_DRIVERS_CLIENT}-"):
                scheduler.loop.add_callback(scheduler.close)

    return EndsWithDriver()
