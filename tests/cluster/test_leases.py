"""The leases on real workers: one cap for all of them, and shares that move to who has rows."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster, wait

from curator_llm import Budget, Endpoint, QueryModel
from curator_llm.cluster.coordinator import STATUS
from curator_llm.testing import FakeServerProcess, answer_to


@contextlib.contextmanager
def cluster_of(workers: int, threads: int = 2, silence_logs: int = 50) -> Iterator[tuple[LocalCluster, Client]]:
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            dashboard_address=":0",
            silence_logs=silence_logs,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


def stage(base_url: str, journal: object, cap: int, **limits) -> QueryModel:
    endpoint = Endpoint("m", base_url=base_url, max_concurrent_requests=cap, **limits)
    return QueryModel(endpoint, prompt="{text}", output="a", journal=str(journal))


def texts(count: int, name: str = "row") -> pd.DataFrame:
    return pd.DataFrame({"text": [f"{name} {n}" for n in range(count)]})


def all_answered(out: pd.DataFrame) -> bool:
    return out["a"].tolist() == [answer_to(text) for text in out["text"]]


def books(client: Client) -> list[dict]:
    return list(client.sync(getattr(client.scheduler, STATUS))["scopes"].values())


def until(is_so) -> None:
    """Wait for what the next reports tell, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_idle_workers_share_goes_to_the_one_that_has_rows(tmp_path):
    with cluster_of(2) as (_, client), FakeServerProcess(latency=0.2) as server:
        many, few = client.scheduler_info()["workers"]
        run = stage(server.base_url, tmp_path, 32)
        long = client.submit(run, texts(900, "long"), workers=[many], pure=False)
        short = client.submit(run, texts(100, "short"), workers=[few], pure=False)
        wait(short)
        server.wait_until(lambda ledger: ledger.in_flight == 32)
        assert all_answered(short.result())
        assert all_answered(long.result())
        assert server.ledger.peak_in_flight == 32
        assert server.ledger.requests == 1000


def test_with_fewer_permits_than_workers_all_have_their_turn(tmp_path):
    with cluster_of(3, threads=1) as (_, client), FakeServerProcess(latency=0.05) as server:
        run = stage(server.base_url, tmp_path, 2)
        addresses = client.scheduler_info()["workers"]
        rows = [client.submit(run, texts(80, address), workers=[address], pure=False) for address in addresses]
        assert all(all_answered(out) for out in client.gather(rows))
        assert server.ledger.peak_in_flight <= 2


def test_quotas_are_those_of_all_workers_together(tmp_path):
    with cluster_of(2) as (_, client), FakeServerProcess(requests_per_minute=600) as server:
        ddf = dd.from_pandas(texts(60), npartitions=6)
        out = stage(server.base_url, tmp_path, 32, max_requests_per_minute=600)(ddf).compute()
        assert all_answered(out)
        assert server.ledger.by_status == {200: 60}
        (book,) = books(client)
        assert book["held"]["requests_per_minute"] <= 600 * (1 + 1e-9)


def test_a_worker_that_its_nanny_starts_anew_frees_what_its_process_held(tmp_path):
    with cluster_of(2) as (cluster, client), FakeServerProcess(latency=0.1) as server:
        run = stage(server.base_url, tmp_path, 16)
        future = client.compute(run(dd.from_pandas(texts(600), npartitions=12)))
        server.wait_until(lambda ledger: ledger.requests > 60)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        assert all_answered(future.result())
        assert server.ledger.peak_in_flight <= 2 * 16, "what was in flight at the kill may be at the server still"
        until(lambda: books(client)[0]["held"]["permits"] == 16)
        assert books(client)[0]["members"] <= 2
        assert server.ledger.requests <= 600 + 16


def test_a_retired_worker_gives_back_its_share_and_pays_for_nothing_twice(tmp_path):
    with cluster_of(2) as (_, client), FakeServerProcess(latency=0.2) as server:
        retired, other = client.scheduler_info()["workers"]
        future = client.compute(stage(server.base_url, tmp_path, 16)(dd.from_pandas(texts(600), npartitions=12)))
        server.wait_until(lambda ledger: ledger.requests > 60)
        client.retire_workers([retired])
        assert all_answered(future.result())
        assert list(client.scheduler_info()["workers"]) == [other]
        until(lambda: (books(client)[0]["members"], books(client)[0]["held"]["permits"]) == (1, 16))
        assert server.ledger.peak_in_flight <= 16
        assert server.ledger.requests <= 600 + 16


def test_where_the_scheduler_takes_no_plugin_each_worker_has_its_even_share(tmp_path, capfd):
    def refuse(**_: object) -> None:
        raise RuntimeError("no plugins here")

    with cluster_of(2, silence_logs=30) as (cluster, client), FakeServerProcess(latency=0.05) as server:
        cluster.scheduler.handlers["register_scheduler_plugin"] = refuse
        run = stage(server.base_url, tmp_path, 9)
        rows = [
            client.submit(run, texts(60, address), workers=[address], pure=False)
            for address in client.scheduler_info()["workers"]
        ]
        assert all(all_answered(out) for out in client.gather(rows))
        assert server.ledger.peak_in_flight == 9
        said = [line for line in capfd.readouterr().err.splitlines() if "does not coordinate" in line]
        assert len(said) == 2, "each worker says it once"
        assert "(RuntimeError: no plugins here)" in said[0]
        assert "even share" in said[0]
        assert "pip install curator-llm==" in said[0]


@pytest.mark.parametrize("processes", [True, False])
def test_two_workers_have_two_engines_for_any_number_of_partitions_and_endpoints(tmp_path, processes):
    def engines(dask_worker):
        from curator_llm import runtime

        return len(runtime.counts(of_workers=True)), dask_worker.plugins["curator-llm"].keeper is not None

    with (
        LocalCluster(n_workers=2, threads_per_worker=4, processes=processes, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        FakeServerProcess(latency=0.02) as one,
        FakeServerProcess(latency=0.02) as two,
    ):
        ddf = dd.from_pandas(texts(320), npartitions=32)
        both = [stage(server.base_url, tmp_path, 8)(ddf) for server in (one, two)]
        assert all(all_answered(out) for out in dask.compute(*both))
        found = client.run(engines)
        assert set(found.values()) == {(1 if processes else 2, True)}
        assert len(books(client)) == 2


def test_a_cluster_that_ends_leaves_no_thread_socket_or_file(tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    with FakeServerProcess(latency=0.02) as one, FakeServerProcess(latency=0.02) as two:
        with (
            LocalCluster(n_workers=2, threads_per_worker=4, processes=False, dashboard_address=":0") as cluster,
            Client(cluster),
        ):
            ddf = dd.from_pandas(texts(320), npartitions=32)
            out = dask.compute(*[stage(server.base_url, tmp_path / "j", 8)(ddf) for server in (one, two)])
            assert all(all_answered(frame) for frame in out)
            assert one.ledger.connections
        for server in (one, two):
            server.wait_until(lambda ledger: not ledger.connections)
    engines = [thread.name for thread in threading.enumerate() if thread.name.startswith("curator-llm engine")]
    assert set(engines) <= before
    files = [file.resolve() for file in Path("/proc/self/fd").iterdir()]
    assert [file for file in files if file.is_relative_to(tmp_path)] == []


def test_a_budget_is_that_of_all_workers_together(tmp_path):
    with cluster_of(4, threads=1) as (_, client), FakeServerProcess(latency=0.02) as server:
        budget = Budget(max_requests=300)
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=16)
        run = QueryModel(
            endpoint,
            prompt="{text}",
            output="a",
            generation={"max_tokens": 16},
            budget=budget,
            journal=str(tmp_path),
        )
        assert len(client.scheduler_info()["workers"]) == 4
        out = run(dd.from_pandas(texts(900), npartitions=24)).compute()
        assert server.ledger.requests <= 300
        assert server.ledger.requests >= 0.97 * 300
        assert out["a__status"].value_counts().to_dict() == {
            "not_attempted": 900 - server.ledger.requests,
            "ok": server.ledger.requests,
        }


def test_a_cluster_that_shrinks_spares_workers_with_requests_in_flight(tmp_path):
    with cluster_of(3, threads=1) as (cluster, client), FakeServerProcess(latency=0.2) as server:
        at_work, *idle = client.scheduler_info()["workers"]
        future = client.submit(stage(server.base_url, tmp_path, 8), texts(200), workers=[at_work], pure=False)
        server.wait_until(lambda ledger: ledger.requests > 20)
        assert set(cluster.scheduler.workers_to_close(n=3)) == set(idle)
        assert all_answered(future.result())
        until(lambda: set(cluster.scheduler.workers_to_close(n=3)) == {at_work, *idle})
