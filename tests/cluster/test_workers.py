"""Many workers: the cap, the tail, the journal between them, and the life of their engines."""

from __future__ import annotations

import statistics
import threading

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.cluster.plugin import EnginePlugin
from curator_llm.errors import AuthenticationError
from curator_llm.testing import FakeServer, FakeServerProcess, answer_to


@pytest.fixture(scope="module", params=[None, True], ids=["tcp", "tls"])
def two_workers(request):
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", security=request.param
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def rows(count: int, npartitions: int) -> dd.DataFrame:
    df = pd.DataFrame({"n": np.arange(count), "text": "row"}, index=np.arange(count)[::-1] % 997)
    return dd.from_pandas(df, npartitions=npartitions, sort=False)


def stage(base_url: str, journal: object, cap: int, **arguments) -> QueryModel:
    endpoint = Endpoint("m", base_url=base_url, max_concurrent_requests=cap)
    return QueryModel(endpoint, prompt="{text} {n}", output="a", journal=str(journal), **arguments)


def test_ten_thousand_rows_on_one_worker_fill_the_cap_and_stand_right(tmp_path):
    ddf = rows(10_000, 20)
    with (
        FakeServerProcess(latency=0.02) as server,
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        lazy = stage(server.base_url, tmp_path / "j", 128)(ddf)
        out = lazy.compute()
        inputs = ddf.compute()
        pd.testing.assert_frame_equal(out[["n", "text"]], inputs)
        assert out["a"].tolist() == [answer_to(f"row {n}") for n in inputs["n"]]
        assert lazy.npartitions == ddf.npartitions
        assert server.ledger.peak_in_flight == 128
        assert server.ledger.requests == 10_000


def test_two_workers_hold_one_cap_and_share_one_journal(two_workers, tmp_path):
    with FakeServerProcess(latency=0.02) as server:
        ddf = rows(4_000, 16)
        out = stage(server.base_url, tmp_path / "j", 33)(ddf).compute()
        assert out["a"].tolist() == [answer_to(f"row {n}") for n in out["n"]]
        assert server.ledger.peak_in_flight <= 33
        assert server.ledger.requests == 4_000
        again = stage(server.base_url, tmp_path / "j", 33)(ddf).compute()
        pd.testing.assert_frame_equal(again, out)
        other = stage(server.base_url, tmp_path / "j", 33, details=True)(ddf.repartition(npartitions=5)).compute()
        pd.testing.assert_frame_equal(other[out.columns], out)
        assert other["a__output_tokens"].notna().all()
        assert server.ledger.requests == 4_000


def test_a_tail_leaves_no_permit_idle_and_few_partitions_open(tmp_path):
    in_use: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            counts = runtime.snapshot()
            if counts.get("done") and counts["sent"] < 32 * 24:  # the first request goes alone
                in_use.append(counts["in_flight"])

    with (
        FakeServerProcess(latency=0.07, long_tail=True) as server,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        runtime.close()  # an engine that other tests left here would be counted, too
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        stage(server.base_url, tmp_path / "j", 16)(rows(32 * 24, 32)).compute()
        ended.set()
        thread.join()
        # benchmarks/partition_tail.py has the figure, 0.98 or more; designs that wait at tails reach 0.2 to 0.77.
        assert statistics.mean(in_use) >= 0.9 * 16
        assert server.ledger.peak_in_flight == 16
        (peak,) = client.run(lambda dask_worker: dask_worker.plugins["curator-llm"].open_partitions.peak).values()
        assert peak <= 8


def test_each_worker_process_has_one_engine(two_workers, tmp_path):
    with FakeServerProcess() as server:
        for name in "ab":
            stage(server.base_url, tmp_path / name, 8)(rows(200, 8)).compute()

    def engines() -> int:
        from curator_llm import runtime

        return len(runtime.engines())

    assert set(two_workers.run(engines).values()) == {1}


def test_a_worker_that_closes_takes_its_engine_along(tmp_path):
    with FakeServer() as server:
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
            Client(cluster),
        ):
            stage(server.base_url, tmp_path / "j", 8)(rows(200, 8)).compute()
            named = [thread.name for thread in threading.enumerate() if thread.name.startswith("curator-llm engine")]
            assert len([name for name in named if "local" not in name]) == 2
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("curator-llm engine")]
        assert [name for name in left if "local" not in name] == []


def test_a_key_that_only_the_client_has_is_asked_for_on_the_workers(two_workers, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIENT_ONLY_KEY", "sk-CANARY-on-the-client")
    with FakeServerProcess() as server:
        endpoint = Endpoint("m", base_url=server.base_url, api_key="env:CLIENT_ONLY_KEY")
        lazy = QueryModel(endpoint, prompt="{text}", output="a", journal=str(tmp_path))(rows(10, 2))
        with pytest.raises(
            AuthenticationError, match=r"CLIENT_ONLY_KEY is not set on .* Set it on every worker, not only"
        ):
            lazy.compute()
        assert server.ledger.requests == 0


def test_a_cancelled_future_sends_nothing_more(tmp_path):
    with (
        FakeServer(latency=0.05) as server,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        future = client.compute(stage(server.base_url, tmp_path / "j", 2)(rows(2_000, 2)))
        server.wait_until(lambda ledger: ledger.requests > 10)
        future.cancel()
        ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
        assert ledger.requests < 200


def test_a_task_that_is_cancelled_is_told_so_and_need_not_look(tmp_path, monkeypatch):
    monkeypatch.setattr("curator_llm.cluster.task._LOOK_S", 60.0)
    with (
        FakeServer(latency=0.05) as server,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        lazy = stage(server.base_url, tmp_path / "j", 2)(rows(400, 2))
        future = client.compute(lazy)
        server.wait_until(lambda ledger: ledger.requests > 10)
        future.cancel()
        ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
        assert ledger.requests < 100
        assert client.compute(lazy).result()["a__status"].eq("ok").all(), "asked for again, the task runs anew"
        assert server.ledger.requests == 400


def test_rows_asked_by_one_worker_are_free_on_another(two_workers, tmp_path):
    with FakeServerProcess() as server:
        run = stage(server.base_url, tmp_path / "j", 8)
        for worker in two_workers.scheduler_info()["workers"]:
            two_workers.submit(run, rows(20, 2).compute(), workers=[worker], pure=False).result()
        assert server.ledger.requests == 20


def test_a_plugin_that_another_task_finds_while_it_is_added_is_ready(tmp_path):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        (worker,) = cluster.workers.values()
        plugin = EnginePlugin(worker)
        assert plugin.engine().alive
        runtime.close(worker)
        assert plugin.open_partitions.peak == 0
        plugin.lines.flush()


def test_large_partitions_are_opened_one_after_another(tmp_path):
    with (
        dask.config.set({"curator-llm.engine.max-open-bytes": "1 MiB"}),
        FakeServer() as server,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        ddf = dd.from_pandas(pd.DataFrame({"n": range(12), "text": "x" * 800_000}), npartitions=6)
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=64)
        out = QueryModel(endpoint, prompt="{n}", output="a", journal=str(tmp_path))(ddf)
        assert out["a__status"].compute().tolist() == ["ok"] * 12
        (peak,) = client.run(lambda dask_worker: dask_worker.plugins["curator-llm"].open_partitions.peak).values()
        assert peak == 1
