"""Clusters that speak TLS, and those that should."""

from __future__ import annotations

import types

import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.coordinator import STATUS
from curator_llm.cluster.plain_schedulers import warning_of_plain_scheduler
from curator_llm.testing import FakeServerProcess


def test_a_cluster_with_tls_has_one_cap_and_says_nothing(tmp_path):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, security=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        FakeServerProcess(latency=0.02) as server,
    ):
        assert client.scheduler.address.startswith("tls://")
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=8)
        stage = QueryModel(endpoint, prompt="{text}", output="a", journal=str(tmp_path))
        ddf = dd.from_pandas(pd.DataFrame({"text": [f"row {n}" for n in range(200)]}), npartitions=8)
        assert stage(ddf).compute()["a__status"].eq("ok").all()
        assert server.ledger.peak_in_flight <= 8
        (book,) = client.sync(getattr(client.scheduler, STATUS))["scopes"].values()
        assert book["members"] == 2


def client_of(address: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(scheduler=types.SimpleNamespace(address=address))


def test_a_scheduler_that_others_reach_without_tls_is_told_of_once():
    client = client_of("tcp://10.0.0.7:8786")
    said = warning_of_plain_scheduler(client)
    assert said is not None
    assert "tcp://10.0.0.7:8786 can be reached from other machines and speaks without TLS" in said
    assert warning_of_plain_scheduler(client) is None


@pytest.mark.parametrize(
    "address",
    ["tls://10.0.0.7:8786", "wss://10.0.0.7:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:1", "inproc://10.0.0.7/1/2"],
)
def test_tls_and_this_machine_need_no_warning(address):
    assert warning_of_plain_scheduler(client_of(address)) is None
