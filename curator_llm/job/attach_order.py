"""Which cluster a job runs on: that of options, job file, Dask's configuration or SLURM step; else this machine."""

from __future__ import annotations

from pathlib import Path

import dask.config

from curator_llm.errors import ConfigurationError
from curator_llm.job.file.cluster import ClusterSpec, LocalWorkers, RunningCluster
from curator_llm.job.slurm_step import SlurmStep


def from_options(scheduler: str | None, scheduler_file: Path | None) -> ClusterSpec | None:
    """Return the cluster that the options ``--scheduler`` and ``--scheduler-file`` name, if they do.

    Raises
    ------
    ConfigurationError
        When both are given.
    """
    if scheduler is not None and scheduler_file is not None:
        msg = "`--scheduler` and `--scheduler-file` are both given: one names the cluster."
        raise ConfigurationError(msg)
    if scheduler is not None:
        return RunningCluster(scheduler, why="as --scheduler says")
    if scheduler_file is not None:
        return RunningCluster(scheduler_file=str(scheduler_file), why="as --scheduler-file says")
    return None


def cluster_or_step(said: ClusterSpec | None) -> ClusterSpec | SlurmStep:
    """Return the cluster of a job, or the SLURM step of which this process is a task.

    Parameters
    ----------
    said : ClusterSpec, optional
        What options or the job file say.
    """
    if said is not None:
        return said
    if address := dask.config.get("scheduler-address", None):
        return RunningCluster(str(address), why="as DASK_SCHEDULER_ADDRESS or Dask's scheduler-address says")
    return SlurmStep.here() or LocalWorkers(why="as nothing names another")


def chosen(said: ClusterSpec | None) -> ClusterSpec:
    """Return the cluster of a job. In a task of a SLURM step it is the step's, which only the command line starts."""
    cluster = cluster_or_step(said)
    return LocalWorkers(why="as nothing names another") if isinstance(cluster, SlurmStep) else cluster
