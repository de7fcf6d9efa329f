"""Clusters whose workers are processes that can be killed, and rows to ask on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import answer_to
from tests.chaos.frames import texts

#: A partition that was open on so many workers that died is given up; Dask's 3 is few for so many kills.
SETTINGS = {"distributed.scheduler.allowed-failures": 20, "distributed.comm.timeouts.connect": "5s"}


@contextlib.contextmanager
def cluster_of_processes(workers: int = 2, **settings: object) -> Iterator[tuple[LocalCluster, Client]]:
    """Start a cluster on this machine."""
    with (
        dask.config.set({**SETTINGS, **settings}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=2,
            processes=True,
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


def worker_processes(cluster: LocalCluster) -> list[int]:
    """Return the ids of the worker processes that are there now."""
    pids = [nanny.pid for nanny in list(cluster.workers.values())]
    return [pid for pid in pids if pid]


def asking(base_url: str, journal: Path, permits: int) -> QueryModel:
    """Return a stage that sends each text as it is."""
    endpoint = Endpoint("m", base_url=base_url, max_concurrent_requests=permits)
    return QueryModel(endpoint, prompt="{text}", output="a", journal=str(journal))


def partitioned(rows: int, npartitions: int) -> dd.DataFrame:
    """Return so many different texts in so many partitions."""
    return dd.from_pandas(texts(rows), npartitions=npartitions)


def wrong_rows(out: pd.DataFrame, rows: int) -> int:
    """Return how many rows are lost, doubled, not in their place, or without their own answer."""
    wanted = texts(rows)
    wanted["a"] = [answer_to(text) for text in wanted["text"]]
    wanted["a__status"] = "ok"
    there = out[list(wanted.columns)].reindex(wanted.index)
    right = (there.fillna("") == wanted).all(axis=1)
    return max(len(out), rows) - int(right.sum()) + (not out.index.equals(wanted.index))
