"""Progress of a cluster and of this process: what is counted, and how it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import dask.dataframe as dd
import nbformat
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from nbclient import NotebookClient

import curator_llm
from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.coordinator import STATUS
from curator_llm.cluster.progress import Progress
from curator_llm.errors import CuratorLLMError
from curator_llm.testing import FakeServer


def texts(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {n}" for n in range(count)]})


def stage(server: FakeServer, **arguments) -> QueryModel:
    return QueryModel(Endpoint("m", base_url=server.base_url, **arguments), prompt="{text}", output="a", journal=False)


def until(holds: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_rows_are_counted_as_they_are_answered_and_by_how_they_end(server):
    progress = Progress()
    progress.begin()
    server.pause()
    frame = pd.DataFrame({"text": ["a", "b", "c", "d", None]})
    thread = threading.Thread(target=stage(server, price_usd=(1e6, 0)), args=[frame])
    thread.start()
    server.wait_until(lambda ledger: ledger.in_flight == 1)  # the first one goes alone
    server.resume(1)
    server.wait_until(lambda ledger: ledger.in_flight == 3)
    server.resume(2)
    until(lambda: progress.look().statuses == {"ok": 3, "skipped": 1})
    assert progress.look().all.rows_known == 5
    assert progress.look().all.rows_open == 1
    server.resume()
    thread.join()
    look = progress.look()
    assert look.statuses == {"ok": 4, "skipped": 1}
    assert look.all.rows_open == 0
    assert look.all.cost_usd == look.all.counts["input_tokens"] > 0


def test_rows_of_a_frame_that_is_broken_off_are_not_counted(server):
    progress = Progress()
    progress.begin()
    with FakeServer(api_key="another") as refusing, pytest.raises(CuratorLLMError, match="401"):
        stage(refusing)(texts(5))
    assert progress.look().all.rows_known == 0
    stage(server)(texts(2))
    assert progress.look().statuses == {"ok": 2}


def test_a_cluster_is_asked_by_one_call_to_its_scheduler(client, server, monkeypatch):
    monkeypatch.setattr(Client, "run", lambda *_, **__: pytest.fail("workers are not asked"))
    progress = Progress(client)
    progress.begin()
    out = stage(server)(dd.from_pandas(texts(40), npartitions=4)).compute()
    assert len(out) == 40
    until(lambda: progress.look().statuses == {"ok": 40})
    look = progress.look()
    assert (look.workers, look.all.rows_open, look.all.in_flight) == (2, 0, 0)
    assert [scope.name for scope in look.scopes] == [f"m at {server.base_url.removesuffix('/v1')}"]
    progress.begin()
    assert progress.look().statuses == {}, "what was before does not count"
    (scope,) = client.sync(getattr(client.scheduler, STATUS))["scopes"].values()
    assert scope["counts"]["sent"] == 40


def test_what_a_retired_worker_did_stays_counted_and_it_reports_no_more(client, server):
    progress = Progress(client)
    progress.begin()
    stage(server)(dd.from_pandas(texts(40), npartitions=4)).compute()
    client.retire_workers(list(client.scheduler_info()["workers"])[:1])
    # it says what it did at last as it leaves
    until(lambda: (progress.look().workers, progress.look().statuses) == (1, {"ok": 40}))


def test_a_display_names_the_reference_to_a_key_and_never_the_key(server, monkeypatch):
    monkeypatch.setenv("TEAM_KEY", "sk-canary")
    progress = Progress()
    progress.begin()
    with FakeServer(api_key="sk-canary") as server:
        stage(server, api_key="env:TEAM_KEY")(texts(2))
        look = progress.look()
    assert look.scopes[0].name == f"m at {server.base_url.removesuffix('/v1')} (key env:TEAM_KEY)"
    shown = f"{look} {look!r} {look._repr_html_()} {vars(look)} {progress._here.status()}"
    assert "sk-canary" not in shown


def test_where_the_scheduler_takes_no_plugin_the_workers_are_asked(client, server):
    def refuse(**_: object) -> None:
        raise RuntimeError("no plugins here")

    client.cluster.scheduler.handlers["register_scheduler_plugin"] = refuse
    progress = Progress(client)
    progress.begin()
    stage(server)(dd.from_pandas(texts(10), npartitions=2)).compute()
    assert progress.look().statuses == {"ok": 10}
    assert progress.look().workers == 2


def test_a_cluster_that_does_not_answer_gives_what_is_known_and_hangs_nothing(client, server):
    progress = Progress(client)
    progress.begin()
    stage(server)(dd.from_pandas(texts(10), npartitions=2)).compute()
    until(lambda: progress.look().statuses == {"ok": 10})
    progress._cluster[1]._timeout_s = 0.0
    look = progress.look()
    assert look.statuses == {"ok": 10}
    assert (look.workers, look.all.limit) == (0, 256)
    client.close()
    assert progress.look().statuses == {"ok": 10}


def test_waiting_and_tokens_are_among_the_metrics_of_dask(client, server):
    stage(server)(dd.from_pandas(texts(10), npartitions=2)).compute()

    def metrics(dask_scheduler):
        found = {}
        for name, value in dask_scheduler.cumulative_worker_metrics.items():
            if isinstance(name, tuple):
                found[name[-2:]] = found.get(name[-2:], 0) + value
        return found

    until(lambda: ("llm", "tokens") in client.run_on_scheduler(metrics))
    until(
        lambda: (
            client.run_on_scheduler(metrics)["llm", "tokens"]
            == server.ledger.input_tokens + server.ledger.output_tokens
        )
    )
    assert client.run_on_scheduler(metrics)["llm-wait", "seconds"] > 0


def test_a_context_shows_what_was_done_in_it(server, capfd):
    stage(server)(texts(3))
    with curator_llm.progress(total=5):
        stage(server)(texts(5))
    assert "ok 5 · 5 of 5 rows (100 %)" in capfd.readouterr().err
    assert curator_llm.progress().look().statuses["ok"] >= 8


@pytest.mark.filterwarnings("default")  # the client of the kernel warns of its own parts
def test_a_notebook_has_one_table_that_is_replaced_in_its_place(server):
    code = f"""
import curator_llm, pandas as pd
stage = curator_llm.QueryModel(curator_llm.Endpoint("m", base_url={server.base_url!r}), prompt="{{text}}", output="a")
with curator_llm.progress(total=2):
    stage(pd.DataFrame({{"text": ["a", "b"]}}))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60).execute()
    (table,) = [output for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert "2 of 2 rows (100 %)" in table.data["text/html"]
    assert "2 of 2 rows (100 %)" in table.data["text/plain"]
