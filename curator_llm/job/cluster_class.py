"""A cluster of a class that a job file names: imported, started, and asked for workers."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from distributed.deploy.cluster import Cluster

from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.file.cluster import ClassCluster


@contextlib.contextmanager
def started(cluster: ClassCluster) -> Iterator[Cluster]:
    """Give the cluster, with its workers asked for; close it at the end.

    Raises
    ------
    ConfigurationError
        When there is no such class, it is no cluster, or it takes no such arguments.
    RunError
        When it cannot start.
    """
    made = _made(_class_of(cluster.path), cluster)
    with contextlib.closing(made):
        if cluster.adapt is not None:
            made.adapt(**cluster.adapt)
        elif cluster.n_workers is not None:
            made.scale(cluster.n_workers)
        yield made


def _class_of(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        msg = f"`cluster.class` is {path!r}, which cannot be imported here ({error}): install its package."
        raise ConfigurationError(msg) from None
    except AttributeError:
        msg = f"`cluster.class` is {path!r}: there is no {name} in {module}."
        raise ConfigurationError(msg) from None
    if not (isinstance(found, type) and issubclass(found, Cluster)):
        msg = f"`cluster.class` is {path!r}, which is no Dask cluster."
        raise ConfigurationError(msg)
    return found


def _made(cls: type[Any], cluster: ClassCluster) -> Any:
    try:
        return cls(**cluster.kwargs)
    except (TypeError, ValueError) as error:
        msg = f"{cluster.path} does not take the `kwargs` of `cluster`: {error}"
        raise ConfigurationError(msg) from None
    except Exception as error:  # noqa: BLE001  whatever a platform's package raises, it is its start that failed
        msg = f"{cluster.path} did not start: {type(error).__name__}: {error}"
        raise RunError(msg) from None
