"""The fake server reads HTTP/1.1 as clients send it, in whatever pieces it comes."""

import json
import socket

import pytest

from curator_llm.testing import FakeServer, answer_to

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "ünïcode"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(BODY)
RAW = HEAD + b"\r\n" + BODY


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        yield client


def read_reply(client):
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += client.recv(65_536)
    head, body = reply.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65_536)
    assert len(body) == length
    return json.loads(body)["choices"][0]["message"]["content"]


def test_a_request_may_come_byte_by_byte(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in RAW:
        client.sendall(bytes([byte]))
    assert read_reply(client) == answer_to("ünïcode")


def test_a_request_may_be_chunked(client, server):
    head = HEAD.split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = [BODY[:10], BODY[10:], b""]
    client.sendall(head + b"".join(b"%x;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks))
    assert read_reply(client) == answer_to("ünïcode")
    assert server.ledger.seen[0].raw == BODY


def test_requests_sent_ahead_are_answered_in_turn(client, server):
    client.sendall(RAW * 3)
    ledger = server.wait_until(lambda ledger: ledger.answered == 3)
    assert ledger.peak_in_flight == 1


def test_a_client_may_ask_before_it_sends_the_body(client):
    client.sendall(HEAD + b"Expect: 100-continue\r\n\r\n")
    assert client.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(BODY)
    assert read_reply(client) == answer_to("ünïcode")


def test_a_client_may_ask_to_close(client):
    client.sendall(HEAD + b"Connection: close\r\n\r\n" + BODY)
    assert read_reply(client) == answer_to("ünïcode")
    assert client.recv(1) == b""


@pytest.mark.parametrize(
    "raw",
    [b"nonsense\r\n\r\n", b"GET / SPDY/1\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
     b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_is_not_http_is_refused_and_closed(client, server, raw):
    client.sendall(raw)
    assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
    assert client.recv(1) == b""
    assert server.ledger.requests == 0


def test_a_megabyte_of_prompt_is_read(client, server):
    prompt = "x" * 1_000_000
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert read_reply(client) == answer_to(prompt)
    assert server.ledger.prompts == [prompt]


def test_a_lone_surrogate_in_a_prompt_is_read(client, server):
    body = rb'{"messages": [{"role": "user", "content": "half \ud83d"}]}'
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert read_reply(client) == answer_to("half \ud83d")
    assert server.ledger.prompts == ["half \ud83d"]
