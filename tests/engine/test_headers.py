"""What a server writes into headers: odd bytes, and secrets it should have kept."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel
from curator_llm.errors import EndpointUnreachableError

CANARY = "sk-CANARY-4d1f0c"


class Gateway(BaseHTTPRequestHandler):
    """Answers well, with headers as the prompt asks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"]))
        body = b'{"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}'
        self.send_response(307 if b"redirect" in asked else 200)
        self.send_header("x-request-id", "caf\xe9" if b"odd" in asked else self.headers["authorization"])
        self.send_header("location", f"http://127.0.0.1:1/?{self.headers['authorization']}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def ask(monkeypatch):
    monkeypatch.setenv("TEAM_KEY", CANARY)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = Endpoint("m", base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="env:TEAM_KEY")
    run = QueryModel(endpoint, prompt="{text}", output="a", details=["request_id"])
    yield lambda text: run(pd.DataFrame({"text": [text]}))
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_header_that_is_no_text_costs_no_row(ask):
    assert ask("odd")["a__status"].tolist() == ["ok"]


def test_a_key_echoed_in_a_header_reaches_neither_column_nor_journal(ask, own_journal):
    assert ask("plain")["a__request_id"].tolist() == ["Bearer [redacted]"]
    assert not any(CANARY.encode() in path.read_bytes() for path in own_journal.rglob("*") if path.is_file())


def test_a_key_echoed_in_a_location_reaches_no_message(ask):
    with pytest.raises(EndpointUnreachableError, match="redirects") as caught:
        ask("redirect")
    assert CANARY not in str(caught.value)
