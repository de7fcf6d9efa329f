"""The line of a scope, through the stage: what starts when, and what throttling and outages do to it."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import dask
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.errors import (
    EndpointUnreachableError,
    RequestRefusedError,
)
from curator_llm.journal.store import Journal
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


def test_what_is_in_flight_and_what_the_journal_does_not_have_yet_are_together_no_more_than_the_permits(monkeypatch):
    disk = threading.Event()
    append = Journal.append

    def append_later(journal: Journal, records) -> None:
        disk.wait(10)
        append(journal, records)

    monkeypatch.setattr(Journal, "append", append_later)
    with FakeServer() as server:
        run = stage(server.base_url, max_concurrent_requests=4)
        asking = threading.Thread(target=run, args=[texts(map(str, range(40)))])
        asking.start()
        ledger = server.wait_until(lambda ledger: ledger.answered >= 4 and not ledger.in_flight)
        assert ledger.requests == 4
        disk.set()
        asking.join()
        assert server.ledger.requests == 40


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
        out = stage(server.base_url, max_concurrent_requests=8)(texts(map(str, range(30))))
        assert set(out["a__status"]) == {"ok"}


def test_an_outage_delays_rows_and_fails_none_and_few_requests_try_meanwhile(caplog):
    requests, fails = itertools.count(), [False]

    def fault(*_: object) -> str | None:
        fails.append(30 <= next(requests) < 39)
        return "http:500" if fails[-1] else None

    # What fails comes a little later, so that no good reply from before stands between two failures.
    with FakeServer(faults=fault, latency=lambda *_: 0.05 * fails[-1]) as server:
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


def test_a_server_that_rejects_most_rows_for_one_reason_ends_the_run_before_all_are_asked():
    with FakeServer(faults=lambda prompt, _: "http:400" if len(prompt) > 2 else None) as server:
        run = stage(server.base_url, max_concurrent_requests=4)
        frame = texts(map(str, range(1_000)))
        with pytest.raises(RequestRefusedError, match=r"nine in ten of the last 200 requests .* \(bad_request: 400"):
            run(frame)
        assert 200 <= server.ledger.requests <= 310
        with dask.config.set({"curator-llm.engine.repeated-rejections": 0}):
            runtime.close()
            assert run(frame)["a__status"].value_counts().to_dict() == {"rejected": 900, "ok": 100}
        assert server.ledger.requests <= 1_010


@pytest.mark.parametrize(("fault", "share"), [("http:400", 3), ("context_length", 100)])
def test_rejections_of_many_rows_and_of_rows_that_are_too_long_end_no_run(fault, share):
    with FakeServer(faults=lambda prompt, _: None if int(prompt) % share == 0 else fault) as server:
        out = stage(server.base_url)(texts(map(str, range(300))))
        assert out["a__status"].value_counts()["rejected"] == 300 - 300 // share


def test_a_deadline_that_passes_while_this_process_stands_still_costs_no_attempt():
    stands = threading.Event()
    with FakeServer() as server:
        run = stage(server.base_url, timeout="1s", max_attempts=1)
        run(texts(["first"]))
        server.pause()
        results: list[pd.DataFrame] = []
        thread = threading.Thread(target=lambda: results.append(run(texts(["row"]))))
        thread.start()
        server.wait_until(lambda ledger: ledger.in_flight == 1)
        runtime.engine()._loop.call_soon_threadsafe(stands.wait, 1.6)  # as another thread that holds the interpreter
        server.wait_until(lambda ledger: ledger.dropped == 1)
        server.resume()
        thread.join()
    assert results[0]["a__status"].tolist() == ["ok"]
    assert runtime.snapshot()["retried stalled"] == 1


def test_a_batch_that_has_ended_is_let_go_of_though_others_always_wait():
    with FakeServer() as server:
        spec = stage(server.base_url, max_concurrent_requests=1).spec
        engine = runtime.engine()

        def submit(values):
            requests = spec.operation.requests({"text": list(values)}, len(values))
            return engine.submit(
                list(enumerate(requests)), endpoint=spec.endpoint, operation=spec.operation, journal=None
            )

        server.pause()
        ending, waiting = submit("abc"), submit([f"row {n}" for n in range(50)])
        for requests in (1, 2, 3):
            server.wait_until(lambda ledger, requests=requests: ledger.requests == requests)
            server.resume(1)
        assert ending.wait(10)
        seen = weakref.ref(ending)
        del ending
        waiting_too = submit("z")
        accepted = threading.Event()
        engine._loop.call_soon_threadsafe(accepted.set)
        assert accepted.wait(10)
        gc.collect()
        assert seen() is None
        server.resume()
        assert waiting.wait(10)
        assert waiting_too.wait(10)
