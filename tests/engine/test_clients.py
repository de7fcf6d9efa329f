"""Clients of users: how they are made, called, closed, and what their exceptions become."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading

import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, QueryRewardModel, runtime
from curator_llm.engine.transport import clients
from curator_llm.errors import ConfigurationError
from curator_llm.services import AsyncLLMClient, LLMClient
from curator_llm.testing import FakeServer

SECRET = "sk-CANARY-90ab12"


class Echo(LLMClient):
    """Says what it was told; raises or returns what a prompt is in `does`."""

    def __init__(self, **does):
        self.does = does
        self.asked = []
        self.closed = 0

    def query_model(self, *, messages, model, temperature=None):
        self.asked.append(messages[-1]["content"])
        what = self.does.get(messages[-1]["content"], [f"{model} {temperature}: {messages[-1]['content']}"])
        if isinstance(what, BaseException):
            raise what
        return what

    def query_reward_model(self, *, messages, model):
        return self.does["scores"]

    def close(self):
        self.closed += 1


class AsyncEcho(AsyncLLMClient):
    """The same, awaited; takes any parameter."""

    def __init__(self, **does):
        self.echo = Echo(**does)
        self.parameters = []

    async def query_model(self, *, messages, model, **parameters):
        self.parameters.append(parameters)
        return self.echo.query_model(messages=messages, model=model)

    async def query_reward_model(self, *, messages, model):
        return self.echo.query_reward_model(messages=messages, model=model)

    async def aclose(self):
        self.echo.close()


def ask(prompts, *, generation=None, details=(), **endpoint) -> pd.DataFrame:
    reached = Endpoint("m", **{"client": "house:make", **endpoint})
    run = QueryModel(reached, prompt="{text}", output="a", generation=generation, details=list(details))
    return run(pd.DataFrame({"text": prompts}))


# --- made and closed --------------------------------------------------------------------------------------------------
def test_a_client_is_made_once_however_many_stages_and_threads_name_it_and_closed_once(house):
    made = []
    house.make = lambda: made.append(Echo(scores={"helpfulness": 1})) or made[-1]

    def both():
        ask(["a", "b"])
        ask(["c"], timeout="5s", max_concurrent_requests=3, scope="tight")
        score = QueryRewardModel(
            Endpoint("m", client="house:make"), messages="c", output="r", attributes=["helpfulness"]
        )
        assert score(pd.DataFrame({"c": [[{"role": "user", "content": "q"}]]}))["r__helpfulness"].tolist() == [1.0]

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (client,) = made
    assert (sorted(client.asked), client.closed) == (["a", "b", "c"], 0)
    runtime.close()
    assert client.closed == 1


def test_an_async_client_is_closed_in_its_loop_and_what_that_raises_is_dropped(house):
    closed_in = []

    class Closing(AsyncEcho):
        async def aclose(self):
            closed_in.append(asyncio.get_running_loop())
            raise RuntimeError("it was closed already")

    house.make = Closing
    ask(["a"])
    runtime.close()
    assert len(closed_in) == 1


def test_clients_are_closed_at_once_and_one_whose_close_blocks_holds_up_nothing(house, monkeypatch):
    meet, left = threading.Barrier(2), threading.Event()
    closed = []

    class Meeting(Echo):
        def close(self):
            meet.wait(30)
            closed.append(self)

    class Stuck(Echo):
        def close(self):
            left.wait(60)

    monkeypatch.setattr(clients, "_CLOSE_S", 0.5)
    house.one, house.two, house.stuck = Meeting, Meeting, Stuck
    for name in ("one", "two", "stuck"):
        ask([name], client=f"house:{name}")
    runtime.close()
    assert len(closed) == 2
    left.set()


def test_a_client_that_is_made_waits_for_no_other_ones_function(house):
    go, started = threading.Event(), threading.Event()

    def slow():
        started.set()
        go.wait(60)
        return Echo()

    house.slow, house.fast = slow, Echo
    found = clients.Clients()
    made = found.get("house:fast")
    thread = threading.Thread(target=found.get, args=("house:slow",))
    thread.start()
    started.wait(30)
    assert found.get("house:fast") is made
    assert not go.is_set()
    go.set()
    thread.join()


def test_a_client_that_an_engine_has_closed_is_refused_by_the_next_one(house):
    with FakeServer() as server:
        kept = openai.AsyncOpenAI(api_key=SECRET, base_url=server.base_url)
        house.make = lambda: kept
        ask(["a"])
        runtime.close()
        with pytest.raises(ConfigurationError, match="returned an AsyncOpenAI that is closed: make a new one"):
            ask(["b"])


def test_an_engine_that_crashes_closes_its_clients(house):
    house.make = lambda: client
    client = Echo()
    ask(["a"])
    engine = runtime.engine()
    engine._loop.call_soon_threadsafe(engine._loop.stop)  # as any crash of the thread would
    engine._thread.join(20)
    assert client.closed == 1


def test_a_class_is_a_function_that_makes_a_client(house):
    house.Echo = Echo
    assert ask(["a"], client="house:Echo")["a"].tolist() == ["m None: a"]


def test_a_rerun_that_finds_all_its_replies_makes_no_client(house):
    house.make = Echo
    first = ask(["a", "b"])
    runtime.close()
    del house.make
    pd.testing.assert_frame_equal(ask(["a", "b"]), first)


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (
            "no_such_house.llm:make",
            r"cannot be imported on .* \(no module 'no_such_house'\).* importable on every worker",
        ),
        ("house:missing", r"the module house has no 'missing' on .* importable on every worker"),
        ("house:constant", "is of type int: name a function"),
        ("house:broken", r"raised RuntimeError on .* \(process \d+\)\. Call it there by hand"),
        ("house:blocking", r"returned an openai.OpenAI, whose calls block: return an openai.AsyncOpenAI"),
        ("house:other", r"returned a dict: return an openai.AsyncOpenAI"),
    ],
)
def test_a_client_that_cannot_be_made_says_why_and_what_to_do_and_no_secret(client, said, house):
    def broken():
        raise RuntimeError(f"wrong key {SECRET}")

    house.constant, house.broken, house.other = 5, broken, lambda: {"key": SECRET}
    sdk = openai.OpenAI(api_key=SECRET)
    house.blocking = lambda: sdk
    with pytest.raises(ConfigurationError, match=said) as caught:
        ask(["x"], client=client)
    assert SECRET not in str(caught.value)
    sdk.close()


def test_a_module_that_raises_when_imported_is_not_quoted(tmp_path, monkeypatch):
    (tmp_path / "house_on_fire.py").write_text(f"raise ValueError('{SECRET}')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="the module house_on_fire raised ValueError on ") as caught:
        ask(["x"], client="house_on_fire:make")
    assert SECRET not in str(caught.value)


def test_a_client_that_does_not_need_the_sdk_does_not_load_it(tmp_path):
    (tmp_path / "house_of_echo.py").write_text(
        textwrap.dedent("""
            from curator_llm.services import LLMClient

            class Echo(LLMClient):
                def query_model(self, *, messages, model):
                    return [messages[-1]["content"]]

                def query_reward_model(self, *, messages, model):
                    return {}
        """)
    )
    program = """
        import sys
        import pandas as pd
        from curator_llm import Endpoint, QueryModel
        run = QueryModel(Endpoint("m", client="house_of_echo:Echo"), prompt="{text}", output="a")
        print(run(pd.DataFrame({"text": ["x"]}))["a"].tolist(), "openai" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["['x']", "False"], done.stderr


# --- parameters -------------------------------------------------------------------------------------------------------
def test_parameters_that_the_stage_sets_are_passed_and_no_others(house):
    client = AsyncEcho()
    house.make = lambda: client
    ask(["a"], generation={"temperature": 0, "extra_body": {"depth": 3}})
    assert client.parameters == [{"temperature": 0, "depth": 3}]


def test_a_parameter_that_the_method_does_not_accept_is_refused_before_anything_is_sent(house):
    client = Echo()
    house.make = lambda: client
    said = (
        r"Echo.query_model does not accept 'seed', only messages, model, temperature: .* return an openai.AsyncOpenAI"
    )
    with pytest.raises(ConfigurationError, match=said):
        ask(["a"], generation={"seed": 1})
    assert client.asked == []


# --- what comes back --------------------------------------------------------------------------------------------------
def test_what_a_client_does_not_tell_is_null(house):
    house.make = Echo
    out = ask(["a"], details=["finish_reason", "input_tokens", "model", "request_id", "attempts"])
    assert out["a__attempts"].tolist() == [1]
    assert out[["a__finish_reason", "a__input_tokens", "a__model", "a__request_id"]].isna().all(axis=None)


class MuteError(Exception):
    """An exception that cannot say what it is."""

    def __str__(self):
        raise RuntimeError


#: What the client returns or raises: how the row ends, and how its error begins.
ODD = {
    "null": ([None], "empty", "no_content: the reply has no text"),
    "nothing": ([], "failed", "malformed: not a chat completion"),
    "bare": ("text", "failed", "malformed: not a chat completion: Echo.query_model returned a str that is not"),
    "number": ([5], "failed", "malformed: "),
    "none": (None, "failed", "malformed: "),
    "value": (ValueError("half a reply"), "failed", "malformed: not a chat completion: half a reply"),
    "body": (ValueError('{"choices":[{"message":{"content":"no"}}]}'), "failed", "malformed: "),
    "late": (TimeoutError(), "failed", "timeout: "),
    "reset": (ConnectionResetError("gone"), "failed", "reset: gone"),
    "system": (OSError("no way"), "failed", "reset: no way"),
    "bug": (ZeroDivisionError(f"at {SECRET}\nsecond"), "failed", "client_error: ZeroDivisionError: at [redacted]"),
    "mute": (MuteError(), "failed", "client_error: MuteError"),
    "key": (OSError(f"refused Bearer {SECRET}"), "failed", "reset: refused Bearer [redacted]"),
    "url": (
        OSError(f"400 for url: https://u:pw-CANARY@a.example/v1/x?key={SECRET[3:]}&n=1"),
        "failed",
        "reset: 400 for url: https://[redacted]@a.example/v1/x?[redacted]",
    ),
    "exit": (SystemExit("no"), "failed", "client_error: SystemExit: no"),
    "next": (StopIteration(), "failed", "client_error: "),
    "cancel": (asyncio.CancelledError(), "failed", "client_error: CancelledError"),
}


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
def test_what_a_client_returns_or_raises_ends_its_row_alone(kind, house):
    client = kind(**{prompt: does for prompt, (does, _, _) in ODD.items()})
    house.make = lambda: client
    out = ask(["first", *ODD, "last"], max_attempts=2)
    assert out["a__status"].tolist() == ["ok", *(status for _, status, _ in ODD.values()), "ok"]
    for (_, _, error), found in zip(ODD.values(), out["a__error"][1:-1], strict=True):
        assert found.replace("AsyncEcho", "Echo").startswith(error)
        assert "second" not in found
    asked = client.asked if kind is Echo else client.echo.asked
    assert [asked.count(prompt) for prompt in ODD] == [1 if status == "empty" else 2 for _, status, _ in ODD.values()]


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(111, "Connection refused"), socket.gaierror(-3, "Temporary failure in name resolution")],
)
def test_a_server_that_a_client_cannot_reach_for_a_while_delays_rows_and_costs_no_attempt(error, house):
    class Flaky(Echo):
        def query_model(self, *, messages, model):
            answer = super().query_model(messages=messages, model=model)
            if self.asked.count("b") in {1, 2}:
                raise error
            return answer

    house.make = Flaky
    out = ask(["a", "b"], max_attempts=1, details=["attempts"])
    assert (out["a__status"].tolist(), out["a__attempts"].tolist()) == (["ok", "ok"], [1, 1])


def test_a_bug_in_a_client_is_asked_again_by_a_rerun(house):
    client = Echo(odd=KeyError("choices"))
    house.make = lambda: client
    assert ask(["odd"])["a__status"].tolist() == ["failed"]
    client.does.clear()
    assert ask(["odd"])["a__status"].tolist() == ["ok"]


@pytest.mark.parametrize("scores", [{"helpfulness": float("nan")}, {}, {"helpfulness": "high"}, [1.0], {1: 2.0}])
def test_scores_that_are_none_are_no_value(scores, house):
    house.make = lambda: Echo(scores=scores)
    run = QueryRewardModel(Endpoint("m", client="house:make"), messages="c", output="r", attributes=["helpfulness"])
    out = run(pd.DataFrame({"c": [[{"role": "user", "content": "q"}]]}))
    assert out["r__status"][0] in {"invalid", "failed"}
    assert out["r__helpfulness"].isna().all()
