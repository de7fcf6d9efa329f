"""One table of what a server can do and how its row ends, for every way to reach a server.

The transport of base URLs (pyreqwest) and the SDK's see a reply as it is. A client with the interface of NeMo Curator
gives texts and scores: where it cannot see a thing, the table has a column of its own for it.
"""

from __future__ import annotations

import itertools
import socketserver
import sys
import threading
import types
from dataclasses import replace

import dask
import httpx2
import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, QueryRewardModel, runtime
from curator_llm.errors import AuthenticationError, EndpointUnreachableError, ModelNotFoundError, QuotaExceededError
from curator_llm.services import AsyncOpenAIClient, OpenAIClient
from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt

KEY = "sk-CANARY-77f0a1c2"
HTTP, CALLS = ("base_url", "sdk"), ("async client", "sync client")


class Wrapped(AsyncOpenAIClient):
    """A client of one's own, which is not taken apart."""


@pytest.fixture
def endpoint(monkeypatch):
    """Make an endpoint that reaches a server in one of four ways."""
    module = types.ModuleType("clients_of_this_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("TEAM_KEY", KEY)

    numbers = itertools.count()

    def make(way: str, base_url: str, *, http_client=None, **arguments) -> Endpoint:
        if way == "base_url":
            return Endpoint("m", base_url=base_url, api_key="env:TEAM_KEY", **arguments)
        sdk = {"api_key": KEY, "base_url": base_url, "max_retries": 0}
        factories = {
            "sdk": lambda: openai.AsyncOpenAI(**sdk, http_client=http_client),
            "async client": lambda: Wrapped(openai.AsyncOpenAI(**sdk)),
            "sync client": lambda: OpenAIClient(openai.OpenAI(**sdk)),
        }
        name = f"client_{next(numbers)}"  # an engine makes each client once
        setattr(module, name, factories[way])
        return Endpoint("m", client=f"{module.__name__}:{name}", **arguments)

    yield make
    runtime.close()  # another test's function may have the same name


OK, RESET = ("ok", None, 1), ("failed", "reset", 2)
MALFORMED = ("failed", "malformed", 2)
#: What the server does: how the row ends, its code, its attempts. The second is what an LLMClient sees of it.
TABLE: dict[str, tuple[tuple, tuple | None]] = {
    "fine": (OK, None),
    "rate_limited@1": (OK, None),
    "retry_after_ms:50@1": (OK, None),
    "http:503@1": (OK, None),
    "http:500@1": (("ok", None, 2), None),
    "http:500": (("failed", "server_error", 2), None),
    "http:408": (("failed", "server_timeout", 2), None),
    "http:409": (("failed", "request_conflict", 2), None),
    "bad_gateway": (("failed", "server_error", 2), None),
    "should_retry:false": (("failed", "server_error", 1), None),
    "context_length": (("rejected", "context_length", 1), None),
    "content_filter_400": (("filtered", "content_filter", 1), None),
    "http:422": (("rejected", "bad_request", 1), None),
    "reset": (RESET, None),
    "close": (RESET, None),
    "reset_mid_body": (RESET, None),
    "short_body": (RESET, None),
    "hang": (("failed", "timeout", 2), None),
    "hang_after_headers": (("failed", "timeout", 2), None),
    "trickle": (("failed", "timeout", 2), None),
    "null_content": (("empty", "no_content", 1), None),
    "empty_content": (("empty", "no_content", 1), None),
    "tool_calls_only": (("empty", "tool_calls_only", 1), ("empty", "no_content", 1)),
    "refusal": (("refused", "refusal", 1), ("empty", "no_content", 1)),
    "finish_length": (("truncated", "max_tokens", 1), OK),
    "finish_content_filter": (("filtered", "content_filter", 1), OK),
    "no_usage": (OK, None),
    "surrogate": (OK, None),
    "nul": (OK, None),
    "wrong_content_type": (OK, None),
    "empty_choices": (MALFORMED, None),
    "no_choices": (MALFORMED, None),
    "list_body": (MALFORMED, None),
    "null_body": (MALFORMED, None),
    "empty_body": (MALFORMED, None),
    "truncated_json": (MALFORMED, None),
    "html_200": (MALFORMED, None),
    "html_as_json": (MALFORMED, None),
    "error_in_200": (("failed", "error_in_200", 2), MALFORMED),
    "huge_body:2": (("invalid", "too_large", 1), None),
}


@pytest.fixture(autouse=True)
def small_replies():
    with dask.config.set({"curator-llm.engine.max-reply-bytes": "1MiB"}):
        yield


def rows_of(frame: pd.DataFrame) -> dict[str, tuple]:
    codes = [None if pd.isna(error) else error.partition(":")[0] for error in frame["a__error"]]
    return dict(zip(frame["text"], zip(frame["a__status"], codes, frame["a__attempts"], strict=True), strict=True))


@pytest.mark.parametrize("way", [*HTTP, *CALLS])
def test_a_reply_or_a_fault_ends_its_row_the_same_way_however_it_came(way, endpoint, monkeypatch):
    monkeypatch.setattr("curator_llm.limits.window.IN_A_ROW", 1_000)  # faults row by row are no outage
    expected = {f"{fault}: x": both[way in CALLS] or both[0] for fault, both in TABLE.items()}
    with FakeServer(faults=faults_named_in_prompt) as server:
        reached = endpoint(way, server.base_url, timeout="500ms", max_attempts=2)
        out = QueryModel(reached, prompt="{text}", output="a", details=["attempts"])(
            pd.DataFrame({"text": list(expected)})
        )
    assert rows_of(out) == expected
    assert out["a"][0] == answer_to("fine: x")


@pytest.mark.parametrize("way", HTTP)
def test_a_body_without_end_is_dropped_at_the_size_cap(way, endpoint):
    with FakeServer(faults=faults_named_in_prompt) as server:
        run = QueryModel(endpoint(way, server.base_url), prompt="{text}", output="a", details=["attempts"])
        out = run(pd.DataFrame({"text": ["fine", "endless_chunked: x", "gzip_bomb: x"]}))
    assert rows_of(out)["endless_chunked: x"] == ("invalid", "too_large", 1)
    assert rows_of(out)["gzip_bomb: x"] == ("failed", "malformed", 2)  # 64 KiB that nobody unpacks


@pytest.mark.parametrize(
    ("server", "error", "said"),
    [
        ({"api_key": "another"}, AuthenticationError, "refused"),
        ({"faults": lambda *_: "echo_key"}, AuthenticationError, r"Incorrect API key provided: \[redacted\]"),
        ({"faults": lambda *_: "http:403"}, AuthenticationError, "403"),
        ({"models": ["other"]}, ModelNotFoundError, "`model`"),
        ({"faults": lambda *_: "insufficient_quota"}, QuotaExceededError, "top it up"),
    ],
    ids=["key", "echoed key", "403", "model", "quota"],
)
@pytest.mark.parametrize("way", [*HTTP, *CALLS])
def test_what_is_wrong_for_every_row_stops_the_run_after_one_request(way, server, error, said, endpoint, own_journal):
    with FakeServer(**server) as it:
        with pytest.raises(error, match=said) as caught:
            QueryModel(endpoint(way, it.base_url), prompt="{text}", output="a")(pd.DataFrame({"text": ["x", "y"]}))
        assert KEY not in str(caught.value)
        assert it.ledger.requests == 1
    assert not any(KEY.encode() in path.read_bytes() for path in own_journal.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", HTTP)
def test_a_redirect_is_not_followed_and_stops_the_run(way, endpoint):
    with FakeServer() as other, FakeServer(faults=lambda *_: "redirect", redirect_to=other.base_url) as server:
        with pytest.raises(EndpointUnreachableError, match="redirects"):
            QueryModel(endpoint(way, server.base_url), prompt="{text}", output="a")(pd.DataFrame({"text": ["x"]}))
        assert (server.ledger.requests, other.ledger.requests) == (1, 0)


@pytest.fixture(scope="module")
def no_tls():
    """Listen, and answer whatever comes with a line that is no TLS."""

    class Greeting(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65_536)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("code", ["connect", "dns", "tls"])
@pytest.mark.parametrize("way", [*HTTP, *CALLS])
def test_what_never_reached_a_server_is_told_from_what_may_be_billed(way, code, endpoint, no_tls):
    url = {"connect": "http://127.0.0.1:1/v1", "dns": "https://no-such-host.invalid/v1", "tls": no_tls}[code]
    said = rf"for 0.1 s \({code}: .*Check the address"
    soon = dask.config.set({"curator-llm.engine.unreachable-after": "100ms"})
    with soon, pytest.raises(EndpointUnreachableError, match=said):
        QueryModel(endpoint(way, url), prompt="{text}", output="a")(pd.DataFrame({"text": ["x"]}))


def test_waiting_for_the_sdks_pool_costs_no_attempt(endpoint, monkeypatch):
    with FakeServer(faults=faults_named_in_prompt) as server:
        one = openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=1))
        reached = endpoint("sdk", server.base_url, http_client=one, timeout="300ms", max_attempts=2)
        run = QueryModel(reached, prompt="{text}", output="a")
        out = run(pd.DataFrame({"text": ["fine", "hang: x", "y", "z"]}))
        assert out["a__status"].tolist() == ["ok", "failed", "ok", "ok"]
        assert runtime.snapshot()["retried connect"] >= 1


@pytest.mark.parametrize("dialect", ["logprobs", "content"])
def test_scores_are_the_same_however_they_came(dialect, endpoint):
    chats = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": text}] for text in ("a", "b")]
    frames = []
    with FakeServer(reward_dialect=dialect) as server:
        for way in (*HTTP, *CALLS):
            reached = replace(endpoint(way, server.base_url), model="reward")
            frames.append(QueryRewardModel(reached, messages="chat", output="r")(pd.DataFrame({"chat": chats})))
    assert set(frames[0]["r__status"]) == {"ok"}
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


@pytest.mark.parametrize("way", [*HTTP, *CALLS])
def test_a_reply_without_scores_is_invalid_and_asked_once(way, endpoint):
    with FakeServer(faults=lambda *_: "no_logprobs") as server:
        reached = replace(endpoint(way, server.base_url), model="reward")
        chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        out = QueryRewardModel(reached, messages="chat", output="r")(pd.DataFrame({"chat": [chat]}))
        assert out["r__error"][0].startswith("no_scores: ")
        assert (out["r__status"][0], server.ledger.requests) == ("invalid", 1)
