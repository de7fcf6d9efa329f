"""The line of a scope, through the stage: what starts when, and what throttling and outages do to it."""

from __future__ import annotations

import itertools
import threading

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.errors import (
    EndpointUnreachableError,
)
from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt


def stage(base_url: str, *, prompt: str = "{text}", **endpoint) -> QueryModel:
    return QueryModel(Endpoint("m", base_url=base_url, **endpoint), prompt=prompt, output="a")


def texts(values) -> pd.DataFrame:
    return pd.DataFrame({"text": list(values)})


def test_the_first_request_goes_alone_and_the_cap_holds_after_it():
    with FakeServer(latency=0.02) as server:
        stage(server.base_url, max_concurrent_requests=8)(texts(map(str, range(200))))
        seen = server.ledger.seen
        assert seen[1].at_s >= seen[0].done_s
        assert server.ledger.peak_in_flight == 8


def test_equal_rows_of_two_threads_share_one_flight():
    with FakeServer() as server:
        run = stage(server.base_url)
        results: list[pd.DataFrame] = []
        threads = [threading.Thread(target=lambda: results.append(run(texts("abc")))) for _ in range(4)]
        server.pause()
        for thread in threads:
            thread.start()
        server.wait_until(lambda ledger: ledger.requests)
        server.resume()
        for thread in threads:
            thread.join()
        assert server.ledger.requests == 3
        assert [frame["a"].tolist() for frame in results] == [[answer_to(text) for text in "abc"]] * 4


def test_permits_are_all_back_after_every_kind_of_fault():
    faults = ["reset", "short_body", "http:500", "http:400", "html_200", "null_content", "huge_body:40", "http:429@1"]
    with FakeServer(faults=faults_named_in_prompt) as server:
        out = stage(server.base_url, max_attempts=2)(texts(["fine", *(f"{fault}: x" for fault in faults)]))
        assert out["a__status"].notna().all()
        counts = runtime.snapshot()
        assert counts["in_flight"] == counts["backlog"] == 0


def test_a_throttling_server_delays_rows_and_fails_none():
    with FakeServer(requests_per_minute=1200, burst=10) as server:
        out = stage(server.base_url, max_concurrent_requests=8)(texts(map(str, range(60))))
        assert set(out["a__status"]) == {"ok"}


def test_an_outage_delays_rows_and_fails_none_and_few_requests_try_meanwhile(caplog):
    requests = itertools.count()
    with FakeServer(faults=lambda *_: "http:500" if 30 <= next(requests) < 39 else None) as server:
        run = stage(server.base_url, max_concurrent_requests=8, max_attempts=2)
        out = run(texts(map(str, range(300))))
        assert out["a__status"].tolist() == ["ok"] * 300
        assert server.ledger.requests == 300 + 9
        (line,) = [record.message for record in caplog.records if "one request at a time" in record.message]
        assert line.startswith(f"{server.base_url} fails (server_error: 500 ")
        assert line.endswith("): one request at a time tries until one is answered, for 3600 s at most.")


def test_an_outage_that_lasts_as_long_as_a_row_may_stops_the_run_and_keeps_what_was_answered():
    with FakeServer(faults=lambda prompt, _: None if len(prompt) < 3 else "http:500") as server:
        run = stage(server.base_url, max_concurrent_requests=8, row_deadline="2s")
        with pytest.raises(EndpointUnreachableError, match=r"has answered no request for 2 s \(server_error: 500"):
            run(texts(map(str, range(300))))
        assert server.ledger.answered >= 100
        assert run.replay(texts(map(str, range(100))))["a__status"].tolist() == ["ok"] * 100


def test_a_row_that_the_server_always_throttles_holds_up_nobody_and_ends_at_its_deadline():
    with FakeServer(faults=lambda prompt, _: "retry_after:0.05" if prompt == "big" else None) as server:
        run = stage(server.base_url, max_concurrent_requests=8, row_deadline="3s")
        out = run(texts(["first", "big", *map(str, range(500))]))
        assert out["a__status"].tolist() == ["ok", "failed", *["ok"] * 500]
        assert out["a__error"][1].startswith("rate_limited: ")
