"""Clusters that are started with the preload module."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

import dask.dataframe as dd
import pandas as pd
from distributed import Client

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import FakeServerProcess


def test_a_preloaded_cluster_has_all_it_needs_before_the_first_rows(tmp_path):
    file = tmp_path / "scheduler.json"
    parts = [
        "--scheduler-file",
        str(file),
        "--no-dashboard",
        "--host",
        "127.0.0.1",
        "--preload",
        "curator_llm.cluster.preload",
    ]
    with contextlib.ExitStack() as stack:
        for kind in (["scheduler", "--port", "0"], ["worker", "--no-nanny", "--nthreads", "1"]):
            command = [sys.executable, "-m", "dask", *kind, *parts]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
            stack.callback(process.kill)
            while not file.exists():
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.05)
        client = stack.enter_context(Client(json.loads(file.read_text())["address"]))
        client.wait_for_workers(1, timeout=30)
        assert client.run_on_scheduler(lambda dask_scheduler: "curator-llm" in dask_scheduler.plugins)
        assert set(client.run(lambda dask_worker: "curator-llm" in dask_worker.plugins).values()) == {True}
        server = stack.enter_context(FakeServerProcess())
        stage = QueryModel(
            Endpoint("m", base_url=server.base_url), prompt="{n}", output="a", journal=str(tmp_path / "j")
        )
        out = stage(dd.from_pandas(pd.DataFrame({"n": range(20)}), npartitions=2)).compute()
        assert out["a__status"].eq("ok").all()
