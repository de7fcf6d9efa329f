"""Each fault does on the wire what its line in the table says."""

import email.utils
import gzip
import http.client
import json
import math
import socket
import zlib
from contextlib import closing, suppress

import pytest

from curator_llm.testing import FAULTS, FakeServer, answer_to, faults_named_in_prompt


@pytest.fixture
def server():
    with FakeServer(faults=faults_named_in_prompt) as server:
        yield server


def open_request(server, prompt):
    """Send a request, read nothing."""
    raw = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)
    return client


def read_all(client):
    reply = b""
    while more := client.recv(65_536):
        reply += more
    return reply


@pytest.mark.parametrize(
    "name", sorted(set(FAULTS) - {"redirect", "hang", "hang_after_headers", "endless_chunked", "trickle"})
)
def test_every_fault_leaves_the_server_whole(server, ask, name):
    with suppress(http.client.HTTPException, OSError):
        ask(server, f"{name}: p")
    assert ask(server, "p").message["content"] == answer_to("p")
    ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
    assert ledger.by_fault == {name: 1}
    assert ledger.answered + ledger.broken == 2


@pytest.mark.parametrize("code", [400, 403, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529])
def test_http_answers_any_status_in_openais_envelope(server, ask, code):
    got = ask(server, f"http:{code}: p")
    assert got.http == code
    assert set(got.error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("value", ["2", "0", "-5", "nan", "abc", "1e9"])
def test_retry_after_sends_its_parameter_as_it_is(server, ask, value):
    got = ask(server, f"retry_after:{value}: p")
    assert (got.http, got.headers["retry-after"]) == (429, value)


def test_retry_after_ms_sends_milliseconds(server, ask):
    assert ask(server, "retry_after_ms:250: p").headers["retry-after-ms"] == "250"


def test_rate_limited_says_nothing_about_when(server, ask):
    got = ask(server, "rate_limited: p")
    assert (got.http, got.headers["retry-after"]) == (429, None)


@pytest.mark.parametrize("parameter", ["5", "5/3600", "5/-3600"])
def test_retry_after_date_counts_from_the_replys_own_date(server, ask, parameter):
    headers = ask(server, f"retry_after_date:{parameter}: p").headers
    sent, retry = (email.utils.parsedate_to_datetime(headers[name]) for name in ("date", "retry-after"))
    assert (retry - sent).total_seconds() == 5


def test_insufficient_quota_is_a_429_with_its_own_code(server, ask):
    got = ask(server, "insufficient_quota: p")
    assert (got.http, got.error["code"]) == (429, "insufficient_quota")


@pytest.mark.parametrize(
    ("name", "code"), [("context_length", "context_length_exceeded"), ("content_filter_400", "content_filter")]
)
def test_refused_prompts_are_a_400(server, ask, name, code):
    got = ask(server, f"{name}: p")
    assert (got.http, got.error["code"]) == (400, code)


def test_echo_key_gives_the_whole_key_back(server, ask):
    got = ask(server, "echo_key: p", headers={"Authorization": "Bearer sk-CANARY-0123456789"})
    assert got.http == 401
    assert "sk-CANARY-0123456789" in got.error["message"]


def test_should_retry_is_a_header(server, ask):
    assert ask(server, "should_retry:true: p").headers["x-should-retry"] == "true"
    assert ask(server, "should_retry: p").headers["x-should-retry"] == "false"


def test_redirect_leads_to_the_second_origin(ask):
    with FakeServer(faults=faults_named_in_prompt, redirect_to="http://127.0.0.1:9/v1") as server:
        got = ask(server, "redirect: p")
        assert ask(server, "redirect:308: p").http == 308
    assert (got.http, got.headers["location"]) == (307, "http://127.0.0.1:9/v1/chat/completions")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("null_content", {"content": None}),
        ("empty_content", {"content": ""}),
        ("refusal", {"content": None, "refusal": "I cannot help with that."}),
        ("reasoning", {"content": answer_to("reasoning: p"), "reasoning_content": "Let me think."}),
        ("surrogate", {"content": answer_to("surrogate: p") + " \ud83d"}),
        ("nul", {"content": answer_to("nul: p") + " \x00"}),
    ],
)
def test_messages_that_hold_no_plain_text(server, ask, name, fields):
    got = ask(server, f"{name}: p")
    assert got.http == 200
    assert got.message == {"role": "assistant", **fields}


def test_tool_calls_only_has_no_content(server, ask):
    choice = ask(server, "tool_calls_only: p").json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "look_up"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_finish_reasons_leave_the_text(server, ask, reason):
    choice = ask(server, f"finish_{reason}: p").json["choices"][0]
    assert choice["finish_reason"] == reason
    assert choice["message"]["content"] == answer_to(f"finish_{reason}: p")


def test_unordered_choices_keep_their_index(server, ask):
    choices = ask(server, "unordered_choices: p", n=3).json["choices"]
    assert [c["index"] for c in choices] == [2, 1, 0]
    assert choices[0]["message"]["content"] == answer_to("unordered_choices: p", 2)


def test_usage_may_be_missing_or_nan(server, ask):
    assert "usage" not in ask(server, "no_usage: p").json
    assert all(math.isnan(count) for count in ask(server, "nan_usage: p").json["usage"].values())


def test_logprobs_may_be_missing_or_nan(server, ask):
    assert ask(server, "no_logprobs: p", model="reward").json["choices"][0]["logprobs"] is None
    tokens = ask(server, "nan_logprobs: p", model="reward").json["choices"][0]["logprobs"]["content"]
    assert all(math.isnan(token["logprob"]) for token in tokens)


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("empty_choices", lambda got: got.json["choices"] == []),
        ("no_choices", lambda got: "choices" not in got.json),
        ("wrong_types", lambda got: got.json["choices"] == "zzz"),
        ("error_in_200", lambda got: got.error["message"] == "Upstream died."),
        ("list_body", lambda got: got.json == []),
        ("null_body", lambda got: got.json is None),
        ("empty_body", lambda got: got.raw == b""),
        ("html_200", lambda got: got.raw.startswith(b"<html") and got.headers["content-type"] == "text/html"),
        ("html_as_json", lambda got: got.raw.startswith(b"<html") and "json" in got.headers["content-type"]),
        ("wrong_content_type", lambda got: got.message and got.headers["content-type"] == "text/plain"),
        ("deep_json:5", lambda got: got.raw == b'{"choices":[[[[[]]]]]}'),
        ("huge_body:1", lambda got: len(got.message["content"]) == 1 << 20),
        ("huge_header:4", lambda got: len(got.headers["x-huge"]) == 4096),
        ("bad_utf8", lambda got: b'"content": "\xff\xfeanswer' in got.raw),
    ],
)
def test_strange_bodies_come_under_status_200(server, ask, name, check):
    got = ask(server, f"{name}: p")
    assert got.http == 200
    assert check(got)


def test_bad_gateway_is_a_page_of_html(server, ask):
    got = ask(server, "bad_gateway: p")
    assert (got.http, got.headers["content-type"]) == (502, "text/html")


def test_truncated_json_is_as_long_as_announced(server, ask):
    got = ask(server, "truncated_json: p")
    assert int(got.headers["content-length"]) == len(got.raw)
    with pytest.raises(json.JSONDecodeError):
        json.loads(got.raw)


def test_a_gzip_bomb_grows_to_its_parameter(server, ask):
    got = ask(server, "gzip_bomb:2: p")
    assert got.headers["content-encoding"] == "gzip"
    assert len(got.raw) < 100_000
    assert len(gzip.decompress(got.raw)) > 2 << 20
    assert zlib.decompressobj(31).decompress(got.raw, 10) == b'{"a":"AAAA'


@pytest.mark.parametrize(
    ("name", "error"), [("reset", ConnectionResetError), ("close", http.client.RemoteDisconnected)]
)
def test_a_connection_may_end_before_the_head(server, ask, name, error):
    with pytest.raises(error):
        ask(server, f"{name}: p")
    assert server.wait_until(lambda ledger: ledger.broken).seen[0].http is None


def test_a_reset_in_the_middle_comes_after_the_head(server):
    with open_request(server, "reset_mid_body: p") as client:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        with pytest.raises(ConnectionResetError):
            read_all(client)


def test_a_short_body_ends_with_its_connection(server, ask):
    with pytest.raises(http.client.IncompleteRead) as failed:
        ask(server, "short_body: p")
    assert failed.value.expected == 30


def test_close_after_reply_gives_no_notice(server):
    with open_request(server, "close_after_reply: p") as client:
        reply = read_all(client)
    assert b"connection:" not in reply.lower()
    assert server.ledger.answered == 1


def test_an_endless_body_goes_on_until_the_client_leaves(server):
    with open_request(server, "endless_chunked: p") as client:
        read = 0
        while read < 5_000_000:
            read += len(client.recv(1 << 20))
        assert server.ledger.in_flight == 1
    assert server.wait_until(lambda ledger: ledger.dropped == 1).in_flight == 0


def test_a_body_may_trickle(server, ask):
    assert ask(server, "trickle:0.0001: p").message["content"] == answer_to("trickle:0.0001: p")


def test_a_trickle_takes_its_time(server):
    with open_request(server, "trickle: p") as client:
        assert client.recv(65_536).endswith(b"\r\n\r\n")
        assert len(client.recv(65_536)) == 1


@pytest.mark.parametrize(("name", "head"), [("hang", False), ("hang_after_headers", True)])
def test_a_hang_ends_with_the_client(server, name, head):
    with open_request(server, f"{name}: p") as client:
        if head:
            assert client.recv(65_536).endswith(b"\r\n\r\n")
        assert server.wait_until(lambda ledger: ledger.in_flight == 1).answered == 0
    assert server.wait_until(lambda ledger: ledger.dropped == 1).in_flight == 0


def test_faults_say_whether_they_are_billed(server, ask):
    for name in ("http:500", "null_content"):
        ask(server, f"{name}: p")
    assert not FAULTS["http"].billed
    assert FAULTS["null_content"].billed
    assert server.ledger.input_tokens == 2


def test_the_key_of_a_redirected_client_is_seen_at_the_second_origin(ask):
    # What a client must never do; the ledger shows it when it does.
    with FakeServer() as second, FakeServer(faults=faults_named_in_prompt, redirect_to=second.base_url) as first:
        got = ask(first, "redirect: p")
        with closing(http.client.HTTPConnection("127.0.0.1", second.port)) as connection:
            target = got.headers["location"].removeprefix(f"http://127.0.0.1:{second.port}")
            connection.request("POST", target, b'{"messages": []}', {"Authorization": "Bearer CANARY"})
            assert connection.getresponse().read()
        assert second.ledger.headers[0]["authorization"] == "Bearer CANARY"
