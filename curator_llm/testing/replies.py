"""What is written on the wire for one request, and what happens to the connection after it."""

from __future__ import annotations

import functools
import http as http_codes
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from curator_llm.testing.envelopes import Json, stream

_REASONS = {code.value: code.phrase for code in http_codes.HTTPStatus}
JSON_TYPE = "application/json"


@dataclass(slots=True)
class Reply:
    """Bytes, and what comes after them.

    `wire` is written at once, then each of `pieces` after its wait in seconds, never faster than the client reads. A
    reply that is not `whole` is one the server breaks off.
    """

    http: int | None
    wire: bytes
    pieces: Iterable[tuple[float, bytes]] = ()
    then: Literal["keep", "close", "reset", "hang"] = "keep"
    whole: bool = True
    tokens: tuple[int, int] = (0, 0)


@functools.lru_cache(maxsize=1024)
def head(http: int, *headers: str, content_type: str = JSON_TYPE, length: int | None = None) -> bytes:
    """Build the head of a reply; without a length its body is chunked."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {http} {_REASONS.get(http, 'Unknown')}", f"content-type: {content_type}", size, *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def plain(http: int, body: bytes, *headers: str, content_type: str = JSON_TYPE) -> Reply:
    """Build a reply of some bytes."""
    return Reply(http, head(http, *headers, content_type=content_type, length=len(body)) + body)


def envelope(http: int, body: Json, *headers: str) -> Reply:
    """Build a reply of some JSON."""
    return plain(http, json.dumps(body).encode(), *headers)


def encode(body: Json) -> bytes:
    """Write JSON: fast, and slowly where only the standard library dares (lone surrogates, NaN)."""
    try:
        fast = msgspec.json.encode(body)
    except UnicodeEncodeError:
        return json.dumps(body).encode()
    return fast


@dataclass(slots=True)
class Case:
    """A request together with its good completion, which a fault may edit before it is written."""

    completion: Json
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    path: str
    redirect_to: str | None = None
    extra_headers: tuple[str, ...] = ()

    @property
    def message(self) -> Json:
        """The message of the first choice."""
        message: Json = self.completion["choices"][0]["message"]
        return message

    @property
    def key(self) -> str:
        """The API key the client sent."""
        return bearer(self.headers)

    @property
    def payload(self) -> bytes:
        """The completion as JSON, also for a request that asked for a stream."""
        return json.dumps(self.completion).encode()

    def render(self, *, exact: bool = False) -> Reply:
        """Write the completion the way the request asked for it; `exact` keeps a NaN a NaN."""
        if not self.body.get("stream"):
            return plain(200, self.payload if exact else encode(self.completion), *self.extra_headers)
        options = self.body.get("stream_options")
        with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        start = head(200, *self.extra_headers, content_type="text/event-stream")
        return Reply(200, start + stream(self.completion, with_usage=with_usage))


def bearer(headers: Mapping[str, str]) -> str:
    """Give the key of an Authorization header, or of Azure's ``api-key``; empty when there is none."""
    if "api-key" in headers:
        return headers["api-key"]
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
