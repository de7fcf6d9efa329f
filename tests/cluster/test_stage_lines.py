"""The lines of stages on Dask: one before, one after, however many partitions and workers there are."""

from __future__ import annotations

import itertools
import queue

import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.stage_lines import StageLines, here


def events():
    """Make events of one worker, as they come one after the other."""
    numbers = itertools.count(1)

    def event(**values):
        nothing = {"open": 0, "statuses": {}, "failures": {}, "reused": 0, "cost_usd": None, "held_back_by": None}
        origin = {"source": "w1", "worker": "tcp://w1", "number": next(numbers)}
        return {**origin, "name": "s", "output": "topic", **nothing, **values}

    return event


def stage(server, journal, **arguments) -> QueryModel:
    endpoint = Endpoint("m", base_url=server.base_url, price_usd=(1e6, 0), **arguments)
    return QueryModel(endpoint, prompt="{text}", output="topic", journal=str(journal))


def rows(count: int, npartitions: int) -> dd.DataFrame:
    return dd.from_pandas(pd.DataFrame({"text": [str(n) for n in range(count)]}), npartitions=npartitions)


def test_the_parts_of_a_stage_are_one_line_when_none_is_open_any_more():
    lines: list[str] = []
    watch, event = StageLines(lines.append, worker="tcp://w1", idle_s=3600), events()
    watch.hear(event(open=1))
    watch.hear(event(open=1, statuses={"ok": 2}, reused=1, cost_usd=0.5))
    watch.hear(event(open=1, statuses={"ok": 3, "failed": 1}, failures={"timeout": 1}, cost_usd=0.25))
    watch.flush()
    assert lines == []  # one is open
    watch.hear(event(held_back_by="max_concurrent_requests"))
    watch.flush()
    (line,) = lines
    assert line.startswith("topic: ok 5 · failed 1 (timeout 1) · 1 reused · $0.75 · ")
    assert line.endswith("held back by max_concurrent_requests")
    watch.flush()
    assert len(lines) == 1


def test_an_event_that_two_clients_hear_counts_once():
    lines: list[str] = []
    watch, event = StageLines(lines.append, idle_s=3600), events()
    for said in (event(statuses={"ok": 1}), event(statuses={"ok": 1})):
        watch.hear(said)
        watch.hear(said)
    watch.flush()
    assert lines[0].startswith("topic: ok 2 · ")


def test_partitions_of_a_worker_that_is_gone_are_not_waited_for(monkeypatch):
    monkeypatch.setattr("curator_llm.cluster.stage_lines.SILENT_S", 0.0)
    came: queue.Queue[str] = queue.Queue()
    watch, event = StageLines(came.put, idle_s=0.01), events()
    watch.hear(event(open=1, statuses={"ok": 1}))
    assert came.get(timeout=30).startswith("topic: ok 1 · ")


def test_when_the_process_ends_what_is_unfinished_is_said_too():
    lines: list[str] = []
    watch, event = StageLines(lines.append, worker="tcp://w1", idle_s=3600), events()
    watch.hear(event(open=1, statuses={"ok": 1}))
    watch.flush(unfinished=True)
    assert lines[0].startswith("topic: ok 1 · ")


def test_a_line_comes_by_itself_once_a_stage_is_idle():
    came: queue.Queue[str] = queue.Queue()
    watch, event = StageLines(came.put, idle_s=0.01), events()
    watch.hear(event(statuses={"ok": 1}))
    assert came.get(timeout=30).startswith("topic: ok 1 · ")


def test_a_stage_without_rows_has_no_line():
    lines: list[str] = []
    watch, event = StageLines(lines.append, idle_s=3600), events()
    watch.hear(event(open=1))
    watch.hear(event())
    watch.flush()
    assert lines == []


def test_rows_that_share_a_reply_over_partitions_pay_once(server, tmp_path, capsys):
    server.change(answer="x", latency=0.05)
    ddf = dd.from_pandas(pd.DataFrame({"text": ["same"] * 8}), npartitions=4)
    run = QueryModel(
        Endpoint("m", base_url=server.base_url, price_usd=(1e6, 0)),
        prompt="{text}",
        output="topic",
        journal=str(tmp_path),
        generation={"temperature": 0},
    )
    here.flush(unfinished=True)
    run(ddf).compute(scheduler="threads", num_workers=4)
    capsys.readouterr()
    here.flush()
    assert " · $1.00 · " in capsys.readouterr().err
    assert server.ledger.requests == 1


def test_on_a_local_scheduler_both_lines_are_printed(server, tmp_path, capsys):
    here.flush(unfinished=True)  # what other tests left
    capsys.readouterr()
    stage(server, tmp_path)(rows(40, 4)).compute(scheduler="threads")
    here.flush()
    before, after = capsys.readouterr().err.splitlines()
    assert before.startswith("topic (first partition): 10 rows, 10 requests, 0 reused from ")
    assert after.startswith("topic: ok 40 · $40.00 · ")


def test_a_client_prints_one_line_for_all_workers(server, tmp_path, monkeypatch):
    lines: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(here, "say", lines.put)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        ddf = stage(server, tmp_path)(rows(40, 4))
        ddf.compute()
        assert lines.get(timeout=60).startswith("topic: ok 40 · $40.00 · ")
        ddf.compute()
        line = lines.get(timeout=60)
        assert line.startswith("topic: ok 40 · 40 reused · ")
        assert "$" not in line
    assert lines.empty()
