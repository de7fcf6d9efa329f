"""How these tests speak to the server: one request on one connection, by the standard library."""

import http.client
import json
from contextlib import closing
from dataclasses import dataclass

import pytest


@dataclass
class Got:
    http: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def json(self):
        return json.loads(self.raw)

    @property
    def message(self):
        return self.json["choices"][0]["message"]

    @property
    def error(self):
        return self.json["error"]


def post(server, body, headers=None, path="/v1/chat/completions"):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, raw, headers or {})
        reply = connection.getresponse()
        return Got(reply.status, reply.headers, reply.read())


@pytest.fixture(name="post")
def _post():
    """Send a body: ``post(server, body, headers, path)``."""
    return post


@pytest.fixture
def ask():
    """Ask a prompt: ``ask(server, prompt, **fields_of_the_body)``."""

    def ask(server, prompt, headers=None, **body):
        return post(server, {"model": "any", "messages": [{"role": "user", "content": prompt}], **body}, headers)

    return ask
