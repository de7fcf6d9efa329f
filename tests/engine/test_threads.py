"""Threads of clients that block: how many there are, and when one is free again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pandas as pd

from curator_llm import Endpoint, QueryModel
from curator_llm.engine.transport.client import ClientTransport
from curator_llm.services import LLMClient
from curator_llm.wire.exchange import Fault, Reply, Request


class Echo(LLMClient):
    """Says what it was told."""

    def __init__(self):
        self.asked = []

    def query_model(self, *, messages, model):
        self.asked.append(messages[-1]["content"])
        return [messages[-1]["content"]]

    def query_reward_model(self, *, messages, model):
        return {}


def ask(prompts, **endpoint) -> pd.DataFrame:
    run = QueryModel(Endpoint("m", client="house:make", **endpoint), prompt="{text}", output="a")
    return run(pd.DataFrame({"text": prompts}))


def request(prompt: str) -> Request:
    body = f'{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}'
    return Request(b"k" * 16, "chat/completions", body.encode(), 1)


def test_a_thread_is_free_again_only_when_its_call_has_returned():
    go = threading.Event()

    class Slow(Echo):
        def query_model(self, *, messages, model):
            answer = super().query_model(messages=messages, model=model)
            if messages[-1]["content"] == "slow":
                go.wait(30)
            return answer

    async def three():
        client = Slow()
        endpoint = Endpoint("m", client="house:make", timeout=0.1, max_concurrent_requests=1)
        transport = ClientTransport(client, endpoint, "query_model", max_reply_bytes=1000)
        late, unsent = await transport.send(request("slow")), await transport.send(request("x"))
        asked = list(client.asked)
        go.set()
        while isinstance(answered := await transport.send(request("y")), Fault):
            pass
        await transport.close()
        return late, unsent, asked, answered

    late, unsent, asked, answered = asyncio.run(three())
    assert (late.kind, late.sent) == ("timeout", True)
    assert (unsent.kind, unsent.sent) == ("connect", False)
    assert asked == ["slow"]
    assert isinstance(answered, Reply)


def test_a_call_that_never_returns_does_not_keep_the_interpreter_from_ending(tmp_path):
    (tmp_path / "house_of_sleep.py").write_text(
        textwrap.dedent("""
            import threading

            from curator_llm.services import LLMClient

            class Sleeper(LLMClient):
                def query_model(self, *, messages, model):
                    threading.Event().wait()

                def query_reward_model(self, *, messages, model):
                    return {}
        """)
    )
    program = """
        import pandas as pd
        from curator_llm import Endpoint, QueryModel
        endpoint = Endpoint("m", client="house_of_sleep:Sleeper", timeout=0.1, max_attempts=1)
        print(QueryModel(endpoint, prompt="{text}", output="a")(pd.DataFrame({"text": ["x"]}))["a__error"][0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "timeout: no complete reply within 0.1 s", done.stderr


def test_calls_one_after_the_other_keep_one_thread(house):
    names = set()

    class Named(Echo):
        def query_model(self, *, messages, model):
            names.add(threading.current_thread().name)
            return super().query_model(messages=messages, model=model)

    house.make = Named
    ask(map(str, range(20)), max_concurrent_requests=1)
    assert len(names) == 1


def test_calls_that_block_run_beside_each_other_up_to_the_cap(house):
    meet = threading.Barrier(8)

    class Meeting(Echo):
        def query_model(self, *, messages, model):
            if messages[-1]["content"] != "first":
                meet.wait(30)
            return super().query_model(messages=messages, model=model)

    house.make = Meeting
    assert set(ask(["first", *map(str, range(16))], max_concurrent_requests=8)["a__status"]) == {"ok"}
