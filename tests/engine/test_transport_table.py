"""What a server can do, and how its row ends, for every way to reach a server.

The transport of base URLs (pyreqwest) and the SDK's see a reply as it is. A client with the interface of NeMo Curator
gives texts and scores, and cannot see everything.
"""

from __future__ import annotations

import socketserver
import threading
from dataclasses import replace

import dask
import httpx2
import openai
import pandas as pd
import pytest

from curator_llm import QueryModel, QueryRewardModel, runtime
from curator_llm.errors import AuthenticationError, EndpointUnreachableError, ModelNotFoundError, QuotaExceededError
from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt
from tests.chaos.oracle import HTTP, WAYS, expected, faults_for
from tests.chaos.ways import KEY, Ways


@pytest.fixture
def endpoint():
    """Make an endpoint that reaches a server in one of four ways."""
    with Ways() as ways:
        yield ways.endpoint


@pytest.fixture(autouse=True)
def small_replies():
    with dask.config.set({"curator-llm.engine.max-reply-bytes": "1MiB"}):
        yield


#: What a server does; `tests.chaos.oracle` says how the row ends.
FAULTS = [
    "fine", "rate_limited@1", "retry_after_ms:50@1", "http:503@1", "http:500@1", "reset@1", "hang@1", "empty_body@1",
    *(fault for fault in faults_for("sync client") if fault not in ("huge_header", "deep_json", "gzip_bomb:1")),
]  # fmt: skip


def rows_of(frame: pd.DataFrame) -> dict[str, tuple]:
    codes = [None if pd.isna(error) else error.partition(":")[0] for error in frame["a__error"]]
    return dict(zip(frame["text"], zip(frame["a__status"], codes, frame["a__attempts"], strict=True), strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_a_reply_or_a_fault_ends_its_row_the_same_way_however_it_came(way, endpoint, monkeypatch):
    monkeypatch.setattr("curator_llm.limits.window.IN_A_ROW", 1_000)  # faults row by row are no outage
    monkeypatch.setattr("curator_llm.engine.retry.BROWN_OUT_RATE", 1)  # and no brown-out
    ends = {f"{fault}: x": expected(faults_named_in_prompt, f"{fault}: x", way=way, max_attempts=2) for fault in FAULTS}
    with FakeServer(faults=faults_named_in_prompt) as server:
        reached = endpoint(way, server.base_url, timeout="1s", max_attempts=2)
        out = QueryModel(reached, prompt="{text}", output="a", details=["attempts"])(pd.DataFrame({"text": list(ends)}))
    assert rows_of(out) == {prompt: (end.status, end.code, end.fewest) for prompt, end in ends.items()}
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
@pytest.mark.parametrize("way", WAYS)
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
@pytest.mark.parametrize("way", WAYS)
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
        for way in WAYS:
            reached = replace(endpoint(way, server.base_url), model="reward")
            frames.append(QueryRewardModel(reached, messages="chat", output="r")(pd.DataFrame({"chat": chats})))
    assert set(frames[0]["r__status"]) == {"ok"}
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


@pytest.mark.parametrize("way", WAYS)
def test_a_reply_without_scores_is_invalid_and_asked_once(way, endpoint):
    with FakeServer(faults=lambda *_: "no_logprobs") as server:
        reached = replace(endpoint(way, server.base_url), model="reward")
        chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        out = QueryRewardModel(reached, messages="chat", output="r")(pd.DataFrame({"chat": [chat]}))
        assert out["r__error"][0].startswith("no_scores: ")
        assert (out["r__status"][0], server.ledger.requests) == ("invalid", 1)
