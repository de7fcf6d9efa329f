"""The key `cluster` of a job file: which cluster a job runs on. Imports nothing it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask.utils import parse_bytes

from curator_llm import config
from curator_llm.job.places import Place

CLASSES_SETTING = "curator-llm.job.cluster-classes"
CLUSTER_KEYS = (
    "n_workers",
    "threads_per_worker",
    "memory_limit",
    "scheduler",
    "scheduler_file",
    "class",
    "kwargs",
    "adapt",
)
_LOCAL = ("n_workers", "threads_per_worker", "memory_limit")
_OF_A_CLASS = ("class", "kwargs", "n_workers", "adapt")
_ADAPT = ("minimum", "maximum")


@dataclass(frozen=True)
class LocalWorkers:
    """A cluster on this machine, for the time of the run.

    Parameters
    ----------
    n_workers, threads_per_worker : int
    memory_limit : str
        Of each worker, for example ``4GiB``.
    why : str
        Why it is this one, for people.
    """

    n_workers: int = 1
    threads_per_worker: int = 2
    memory_limit: str = "auto"
    why: str = field(default="as the job says", compare=False)


@dataclass(frozen=True)
class RunningCluster:
    """A cluster that is there.

    Parameters
    ----------
    scheduler : str, optional
        Its address.
    scheduler_file : str, optional
        The file in which it says its address, instead; it is waited for.
    is_own : bool
        Whether it ends with the run.
    why : str
        Why it is this one, for people.
    """

    scheduler: str | None = None
    scheduler_file: str | None = None
    is_own: bool = False
    why: str = field(default="as the job says", compare=False)


@dataclass(frozen=True)
class ClassCluster:
    """A cluster that a class of some package starts, for the time of the run.

    Parameters
    ----------
    path : str
        For example ``dask_jobqueue.SLURMCluster``.
    kwargs : mapping of str
        Its arguments.
    n_workers : int, optional
        How many workers to ask for, unless the arguments or `adapt` say so.
    adapt : mapping of str to int, optional
        ``minimum`` and ``maximum``: as many workers as there is work for.
    why : str
        Why it is this one, for people.
    """

    path: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    n_workers: int | None = None
    adapt: Mapping[str, int] | None = None
    why: str = field(default="as the job says", compare=False)


ClusterSpec = LocalWorkers | RunningCluster | ClassCluster


def ends_with_the_run(cluster: ClusterSpec) -> bool:
    """Tell whether a cluster is the run's own."""
    return not isinstance(cluster, RunningCluster) or cluster.is_own


def read_cluster(value: Any, place: Place) -> ClusterSpec:
    """Read the key.

    Raises
    ------
    JobFileError
        With place, value and what to do.
    """
    given = place.mapping(value, CLUSTER_KEYS)
    for kind in ("scheduler", "scheduler_file"):
        if kind in given:
            if len(given) > 1:
                msg = f"`{kind}` names a cluster that is there: leave the other keys out."
                raise place.error(msg)
            example = "tcp://10.0.0.1:8786" if kind == "scheduler" else "scheduler.json"
            text = (place / kind).text(given[kind], example)
            return RunningCluster(text) if kind == "scheduler" else RunningCluster(scheduler_file=text)
    if "class" in given:
        return _class_cluster(place.mapping(given, _OF_A_CLASS), place)
    return _local_workers(place.mapping(given, [*_LOCAL, "class"]), place)


def _local_workers(given: dict[str, Any], place: Place) -> LocalWorkers:
    limit = given.pop("memory_limit", "auto")
    numbers: dict[str, Any] = {name: (place / name).count(number) for name, number in given.items()}
    try:
        if limit != "auto":
            parse_bytes(limit)
    except (ValueError, TypeError, AttributeError):
        msg = f"is {limit!r}: give a size such as '4GiB', or 'auto'."
        raise (place / "memory_limit").error(msg) from None
    return LocalWorkers(memory_limit=str(limit), **numbers)


def _class_cluster(given: dict[str, Any], place: Place) -> ClassCluster:
    path = (place / "class").text(given["class"], "dask_jobqueue.SLURMCluster")
    prefixes = config.get("job.cluster-classes")
    prefixes = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes or ())
    if not path.startswith(prefixes) or not all(part.isidentifier() for part in path.split(".")):
        msg = (
            f"is {path!r}: a class is imported if its path begins with {', '.join(prefixes)}. For another one, add the "
            f"beginning of its path to {CLASSES_SETTING} in your Dask configuration."
        )
        raise (place / "class").error(msg)
    kwargs = given.get("kwargs") or {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        msg = f"is {kwargs!r}: give the arguments of {path} by name."
        raise (place / "kwargs").error(msg)
    if sum(asked is not None for asked in (given.get("n_workers"), given.get("adapt"), kwargs.get("n_workers"))) != 1:
        msg = "asks for no workers, or twice: give one of `n_workers`, `adapt` and `n_workers` in `kwargs`."
        raise place.error(msg)
    adapt = given.get("adapt")
    n_workers = given.get("n_workers")
    return ClassCluster(
        path,
        dict(kwargs),
        n_workers=None if n_workers is None else (place / "n_workers").count(n_workers),
        adapt=None if adapt is None else _adapt(adapt, place / "adapt"),
    )


def _adapt(value: Any, place: Place) -> dict[str, int]:
    given = place.mapping(value, _ADAPT, required=_ADAPT)
    minimum, maximum = ((place / name).count(given[name]) for name in _ADAPT)
    if maximum < minimum:
        msg = f"`maximum` is {maximum}, below `minimum`, which is {minimum}."
        raise place.error(msg)
    return {"minimum": minimum, "maximum": maximum}
