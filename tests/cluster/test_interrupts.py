"""Ctrl-C in a compute on Dask's threaded scheduler: its pool sends nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.dataframe as dd
import pandas as pd
import pytest

import curator_llm
from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.local_callers import anybody_waits, is_in_pool
from curator_llm.cluster.open_partitions import OpenPartitions
from curator_llm.engine.batch import Batch

PROGRAM = """
import atexit, signal, sys
import dask.dataframe as dd
import pandas as pd
from curator_llm import Endpoint, QueryModel
atexit.register(print, "the pool has ended", flush=True)  # Python waits for pools first
signal.signal(signal.SIGINT, signal.default_int_handler)
endpoint = Endpoint("m", base_url=sys.argv[1], max_concurrent_requests=4)
ddf = dd.from_pandas(pd.DataFrame({"text": [str(n) for n in range(400)]}), npartitions=4)
try:
    QueryModel(endpoint, prompt="{text}", output="a")(ddf).compute(scheduler="threads", num_workers=2)
except KeyboardInterrupt:
    print("back", flush=True)
"""


def stage(base_url: str) -> QueryModel:
    return QueryModel(Endpoint("m", base_url=base_url, max_concurrent_requests=4), prompt="{text}", output="a")


def test_after_ctrl_c_the_pool_sends_nothing_more_and_a_line_says_how_to_go_on(server, own_journal):
    path = os.pathsep.join([str(Path(curator_llm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    server.pause()
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.base_url],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for sent in (1, *range(5, 8)):  # the first request goes alone, then four are in flight
        server.wait_until(lambda ledger, sent=sent: ledger.requests == sent, timeout_s=60)
        server.resume(1)
    server.wait_until(lambda ledger: ledger.requests == 8, timeout_s=60)
    started.send_signal(signal.SIGINT)
    assert started.stdout is not None
    assert started.stdout.readline() == "back\n"
    assert started.stdout.readline() == "the pool has ended\n"
    server.resume()
    _, errors = started.communicate(timeout=60)
    (line,) = (line for line in errors.splitlines() if "interrupted" in line)
    assert line.startswith("a: interrupted: nothing more is sent, replies are kept in ")
    assert line.endswith("Run it again to ask only for the rest.")
    assert server.ledger.requests == 8
    ddf = dd.from_pandas(pd.DataFrame({"text": [str(n) for n in range(400)]}), npartitions=3)
    stage(server.base_url)(ddf).compute(scheduler="threads")
    assert server.ledger.requests == 400


def test_only_a_pool_thread_of_a_local_scheduler_looks_whether_anybody_waits():
    def look(df: pd.DataFrame) -> pd.DataFrame:
        return df.assign(in_pool=is_in_pool(), waits=anybody_waits())

    ddf = dd.from_pandas(pd.DataFrame({"text": ["a"]}), npartitions=1)
    meta = {"text": "string[pyarrow]", "in_pool": bool, "waits": bool}
    for scheduler, in_pool in (("threads", True), ("synchronous", False)):
        seen = ddf.map_partitions(look, meta=meta).compute(scheduler=scheduler)
        assert seen[["in_pool", "waits"]].to_numpy().tolist() == [[in_pool, True]]
    assert (is_in_pool(), anybody_waits()) == (False, False)
    with ThreadPoolExecutor(1) as threads:  # the user's own
        assert threads.submit(is_in_pool).result() is False


def test_a_partition_that_waits_for_room_and_is_not_wanted_any_more_waits_no_longer():
    full = OpenPartitions(most=1, threads=1)
    batch = Batch([0], 0, lambda: True)
    looks = iter([None, None])
    with full.one(seceded=False) as place, pytest.raises(StopIteration):
        full.wait_for_room(place, batch, lambda: next(looks))
    assert not place.seceded
