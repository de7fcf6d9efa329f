"""The engine through the stage: what starts when, what a fault does to the rest, and how it ends."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.engine.transport.pyreqwest import PyreqwestTransport
from curator_llm.errors import (
    AuthenticationError,
    EngineError,
    JournalError,
    QuotaExceededError,
)
from curator_llm.journal.store import Journal
from curator_llm.limits.allowance import Allowance
from curator_llm.operations.chat import Chat
from curator_llm.testing import FakeServer, FakeServerProcess, answer_to


def stage(base_url: str, *, prompt: str = "{text}", **endpoint) -> QueryModel:
    return QueryModel(Endpoint("m", base_url=base_url, **endpoint), prompt=prompt, output="a")


def texts(values) -> pd.DataFrame:
    return pd.DataFrame({"text": list(values)})


def run_in_child(program: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )


def test_attempts_past_their_deadline_leave_no_request_open_at_the_server():
    with FakeServer(faults=lambda prompt, _: None if prompt == "first" else "hang") as server:
        run = stage(server.base_url, max_concurrent_requests=10, timeout="200ms", max_attempts=1)
        out = run(texts(["first", *map(str, range(10))]))
        assert out["a__status"].tolist() == ["ok"] + ["failed"] * 10
        assert out["a__error"][1] == "timeout: no complete reply within 0.2 s"
        assert server.ledger.in_flight <= 10
        server.wait_until(lambda ledger: ledger.in_flight == 0)


def test_two_thousand_in_flight_under_a_limit_of_1024_files_warn_and_answer_all_rows():
    program = """
        import resource, sys, warnings
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
        import pandas as pd
        from curator_llm import Endpoint, QueryModel
        endpoint = Endpoint("m", base_url=sys.argv[1], max_concurrent_requests=2000)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            out = QueryModel(endpoint, prompt="{text}", output="a")(pd.DataFrame({"text": range(4000)}))
        print(out["a__status"].value_counts().to_dict(), [str(w.message)[:60] for w in caught])
    """
    with FakeServerProcess(latency=0.2) as server:
        done = run_in_child(program, server.base_url)
        assert done.returncode == 0, done.stderr
        assert "{'ok': 4000}" in done.stdout
        assert "max_concurrent_requests=2000 needs 2256 open files" in done.stdout
        assert 256 < server.ledger.peak_in_flight <= 1024 - 256


def test_a_soft_limit_below_the_hard_one_is_raised():
    program = """
        import resource, sys
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        import pandas as pd
        from curator_llm import Endpoint, QueryModel
        endpoint = Endpoint("m", base_url=sys.argv[1], max_concurrent_requests=2000)
        out = QueryModel(endpoint, prompt="{text}", output="a")(pd.DataFrame({"text": range(4000)}))
        print(out["a__status"].value_counts().to_dict())
    """
    with FakeServerProcess(latency=0.5) as server:
        done = run_in_child(program, server.base_url)
        assert "{'ok': 4000}" in done.stdout, done.stderr
        assert server.ledger.peak_in_flight > 1024


def test_a_rerun_after_a_stop_waits_for_what_is_in_flight_and_pays_it_once():
    def latency(prompt, attempt):
        return 0.0 if prompt in {"first", "broke"} else 0.5

    faults = lambda prompt, attempt: "insufficient_quota" if (prompt, attempt) == ("broke", 1) else None  # noqa: E731
    with FakeServer(latency=latency, faults=faults) as server:
        run = stage(server.base_url, max_concurrent_requests=8)
        rows = texts(["first", *map(str, range(7)), "broke", *map(str, range(10, 20))])
        with pytest.raises(QuotaExceededError):
            run(rows)
        assert set(run(rows)["a__status"]) == {"ok"}
        assert server.ledger.peak_in_flight <= 8
        assert {prompt: count for prompt, count in server.ledger.attempts.items() if count > 1} == {"broke": 2}


def test_an_interrupted_batch_leaves_its_limits_behind():
    with FakeServer() as server:
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=2)
        run = QueryModel(endpoint, prompt="{text}", output="a")
        server.pause()
        plan = run.dry_run(texts(map(str, range(20))))
        batch = runtime.engine().submit(plan.todo, endpoint=endpoint, operation=run.spec.operation, journal=None)
        server.wait_until(lambda ledger: ledger.requests)
        runtime.engine().cancel(batch)
        server.resume()
        server.change(latency=0.05)
        stage(server.base_url, max_concurrent_requests=20)(texts(map(str, range(100, 200))))
        assert server.ledger.peak_in_flight == 20


def test_a_journal_that_was_cleared_away_is_made_anew(own_journal):
    with FakeServer() as server:
        run = stage(server.base_url)
        run(texts("ab"))
        shutil.rmtree(own_journal)
        run(texts("ab"))
        run(texts("ab"))
        assert server.ledger.requests == 4


def test_a_failing_callback_of_the_loop_fails_the_waiting_batches(monkeypatch):
    def broken(self, tokens):
        raise MemoryError

    monkeypatch.setattr(Allowance, "cost", broken)
    with FakeServer() as server, pytest.raises(EngineError, match="MemoryError"):
        stage(server.base_url)(texts("abc"))


def test_a_key_rotated_in_mid_run_is_looked_up_again_and_costs_no_row(monkeypatch):
    with FakeServer(api_key="old-key", latency=0.01) as server:
        monkeypatch.setenv("TEAM_KEY", "old-key")
        run = stage(server.base_url, api_key="env:TEAM_KEY", max_concurrent_requests=4)
        results: list[pd.DataFrame] = []
        thread = threading.Thread(target=lambda: results.append(run(texts(map(str, range(300))))))
        thread.start()
        server.wait_until(lambda ledger: ledger.answered > 20)
        monkeypatch.setenv("TEAM_KEY", "new-key")
        server.change(api_key="new-key")
        thread.join()
        assert set(results[0]["a__status"]) == {"ok"}


@pytest.mark.parametrize("found", ["new-key", "old-key"])
def test_a_burst_of_refusals_looks_for_the_key_once(found, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "getlogin", lambda: asked.append(1) or ("old-key" if len(asked) == 1 else found))
    with FakeServer(api_key="old-key") as server:
        run = stage(server.base_url, api_key="callable:os:getlogin", max_concurrent_requests=32)
        assert set(run(texts(["first"]))["a__status"]) == {"ok"}
        server.change(api_key="new-key")
        if found == "new-key":
            assert set(run(texts(map(str, range(32))))["a__status"]) == {"ok"}
            assert server.ledger.by_status[200] == 1 + 32
        else:
            with pytest.raises(AuthenticationError):
                run(texts(map(str, range(32))))
        assert 1 <= server.wait_until(lambda ledger: not ledger.in_flight).by_status[401] <= 32
    assert len(asked) == 2


def test_a_key_function_that_gives_ever_new_keys_does_not_ask_for_ever(monkeypatch):
    keys = iter(range(1000))
    monkeypatch.setattr(os, "getlogin", lambda: f"new-key-{next(keys)}")
    with FakeServer(api_key="right") as server:
        with pytest.raises(AuthenticationError):
            stage(server.base_url, api_key="callable:os:getlogin")(texts("a"))
        assert server.ledger.requests == 2


def test_a_server_that_keeps_naming_max_completion_tokens_does_not_ask_for_ever():
    said = {"error": {"message": "use max_completion_tokens instead of max_tokens", "param": "max_tokens"}}
    with FakeServer(faults=lambda *_: "http:400", answer=said) as server:
        run = QueryModel(
            Endpoint("m", base_url=server.base_url),
            prompt="{text}",
            output="a",
            generation={"max_completion_tokens": 5},
        )
        assert run(texts("a"))["a__status"].tolist() == ["rejected"]
        assert server.ledger.requests == 1


def test_one_row_whose_schema_is_refused_after_good_replies_is_rejected_alone():
    form = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    with FakeServer(answer="{}", faults=lambda prompt, _: "refused_schema" if prompt == "bad" else None) as server:
        endpoint = Endpoint("m", base_url=server.base_url, max_attempts=2)
        run = QueryModel(endpoint, prompt="{text}", output="a", generation={"response_format": form})
        out = run(texts(["a", "bad", "b"]))
        assert out["a__status"].tolist() == ["ok", "rejected", "ok"]
        assert out["a__error"][1].startswith("request_refused: 400 Invalid schema for response_format")


def limited(base_url, model: str = "m") -> QueryModel:
    endpoint = Endpoint(model, base_url=base_url, scope="team", max_concurrent_requests=1)
    return QueryModel(endpoint, prompt="{text}", output="a", generation={"max_tokens": 8})


def test_servers_of_one_scope_may_know_the_length_limit_by_different_names():
    with FakeServer(only_max_completion_tokens=True) as new, FakeServer(only_max_tokens=True) as old:
        for name, server in {"new": new, "old": old}.items():
            assert set(limited(server.base_url, name)(texts("abc"))["a__status"]) == {"ok"}
        assert (new.ledger.by_status[400], old.ledger.by_status) == (1, {200: 3})


def test_replicas_may_know_the_length_limit_by_different_names():
    with FakeServer(only_max_completion_tokens=True) as new, FakeServer(only_max_tokens=True) as old:
        out = limited([new.base_url, old.base_url])(texts("abcdef"))
        assert set(out["a__status"]) == {"ok"}


def test_endpoints_of_one_scope_that_disagree_are_warned_of_once_while_both_are_in_use():
    with FakeServer(latency=0.05) as server:
        wide = stage(server.base_url, scope="team", max_concurrent_requests=20)
        narrow = stage(server.base_url, scope="team", max_concurrent_requests=5, prompt="{text} again")
        thread = threading.Thread(target=lambda: wide(texts(map(str, range(400)))))
        thread.start()
        server.wait_until(lambda ledger: ledger.in_flight == 20)
        with pytest.warns(UserWarning, match="share the quota scope 'team'"):
            narrow(texts(map(str, range(10))))
        server.wait_until(lambda ledger: ledger.in_flight <= 5)
        thread.join()
        server.reset()
        stage(server.base_url, scope="team", max_concurrent_requests=8, prompt="{text} more")(
            texts(map(str, range(50)))
        )
        assert server.ledger.peak_in_flight == 8  # alone, an endpoint has its own limits


def test_a_journal_that_cannot_be_written_stops_the_run(monkeypatch):
    def full(self, records):
        raise JournalError("No space left in the journal's directory: make room, then run again.")

    monkeypatch.setattr(Journal, "append", full)
    with FakeServer(latency=0.01) as server:
        with pytest.raises(JournalError, match="No space left"):
            stage(server.base_url, max_concurrent_requests=4)(texts(map(str, range(200))))
        assert server.ledger.requests <= 8


def test_a_dead_replica_draws_no_rows():
    with FakeServer() as dead:
        pass
    with FakeServer() as live:
        endpoint = Endpoint("m", base_url=[dead.base_url, live.base_url], max_concurrent_requests=8)
        out = QueryModel(endpoint, prompt="{text}", output="a")(texts(map(str, range(100))))
        assert set(out["a__status"]) == {"ok"}


def test_replicas_share_the_load():
    with FakeServer(latency=0.01) as one, FakeServer(latency=0.01) as two:
        endpoint = Endpoint("m", base_url=[one.base_url, two.base_url], max_concurrent_requests=8)
        QueryModel(endpoint, prompt="{text}", output="a")(texts(map(str, range(200))))
        assert min(one.ledger.requests, two.ledger.requests) >= 80


def test_nobody_waits_for_an_engine_thread_that_died():
    with FakeServer() as server:
        run = stage(server.base_url)
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                run(texts("abc"))
            except EngineError as error:
                errors.append(error)

        server.pause()
        thread = threading.Thread(target=ask)
        thread.start()
        server.wait_until(lambda ledger: ledger.requests)
        loop = runtime.engine()._loop
        loop.call_soon_threadsafe(loop.stop)  # as any crash of the thread would
        thread.join(20)
        assert not thread.is_alive()
        assert "Run again: replies are kept" in str(errors[0])
        server.resume()
        runtime.close()
        assert run(texts("abc"))["a__status"].tolist() == ["ok"] * 3  # the next one starts afresh


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bug_in_the_loop_fails_the_waiting_batches(monkeypatch):
    def broken(self, body):
        raise ZeroDivisionError

    monkeypatch.setattr(Chat, "judge", broken)
    with FakeServer() as server, pytest.raises(EngineError, match="ZeroDivisionError"):
        stage(server.base_url)(texts("abc"))


def test_a_flight_that_somebody_cancels_fails_the_waiting_batches(monkeypatch):
    async def cancelled(self, request):
        raise asyncio.CancelledError

    monkeypatch.setattr(PyreqwestTransport, "send", cancelled)
    with FakeServer() as server, pytest.raises(EngineError, match="CancelledError"):
        stage(server.base_url)(texts("abc"))


def test_a_forked_child_is_told_how_to_start_instead_of_hanging():
    with FakeServer() as server:
        run = stage(server.base_url)
        run(texts("ab"))
        context = multiprocessing.get_context("fork")
        said = context.SimpleQueue()

        def ask() -> None:
            try:
                run(texts("abcd"))
            except EngineError as error:
                said.put(str(error))

        child = context.Process(target=ask)
        child.start()
        assert "Start processes with 'spawn'" in said.get()
        child.join(30)
        assert run(texts("abcd"))["a"].tolist() == [answer_to(text) for text in "abcd"]  # the parent goes on


def test_what_is_in_flight_when_a_process_ends_is_kept(own_journal):
    program = """
        import sys, threading, time
        import pandas as pd
        from curator_llm import Endpoint, QueryModel
        run = QueryModel(Endpoint("m", base_url=sys.argv[1], max_concurrent_requests=4), prompt="{text}", output="a")
        def ask():
            try:
                run(pd.DataFrame({"text": range(100)}))
            except Exception as error:
                print(type(error).__name__, file=sys.stderr)
        threading.Thread(target=ask, daemon=True).start()
        sys.stdin.readline()
    """
    with FakeServer(latency=0.3) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), server.base_url], stdin=subprocess.PIPE, text=True
        )
        server.wait_until(lambda ledger: ledger.requests > 8, timeout_s=60)
        child.communicate("\n", timeout=60)
        assert child.returncode == 0
        ledger = server.ledger
        assert ledger.dropped == 0
        assert ledger.requests < 100
        stage(server.base_url, max_concurrent_requests=100)(texts(map(str, range(100))))
        assert server.ledger.requests == 100  # nothing was paid twice
