"""Reads HTTP/1.1 requests out of the bytes of a connection: enough of the protocol for real clients, and no more."""

from __future__ import annotations

import functools
from dataclasses import dataclass

_LARGEST_HEAD_BYTES = 1 << 20


class BadRequestError(Exception):
    """The bytes are not HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class RequestParser:
    """Takes bytes as they come and gives requests as they are complete."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._searched = 0
        self._chunks = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._inbox += data

    @property
    def wants_continue(self) -> bool:
        """Whether a head with ``Expect: 100-continue`` has come and its body has not."""
        return self._head is not None and self._head[2].get("expect", "").lower() == "100-continue" and not self._inbox

    def next(self) -> HttpRequest | None:
        """Give the next complete request, or None when bytes are missing."""
        if self._head is None and not self._read_head():
            return None
        if self._head is None:
            return None
        method, path, headers = self._head
        body = self._read_chunked() if "transfer-encoding" in headers else self._read_sized(headers)
        if body is None:
            return None
        self._head = None
        self._searched = 0
        return HttpRequest(method, path, headers, body)

    def _read_head(self) -> bool:
        inbox = self._inbox
        while inbox[:2] == b"\r\n":
            del inbox[:2]
        end = inbox.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(inbox)
            if len(inbox) > _LARGEST_HEAD_BYTES:
                msg = "the head of the request does not end"
                raise BadRequestError(msg)
            return False
        self._head = _parse_head(bytes(inbox[:end]))
        del inbox[: end + 4]
        return True

    def _read_sized(self, headers: dict[str, str]) -> bytes | None:
        given = headers.get("content-length", "0")
        if not given.isdecimal():
            msg = "Content-Length is not a number"
            raise BadRequestError(msg)
        size = int(given)
        if len(self._inbox) < size:
            return None
        body = bytes(self._inbox[:size])
        del self._inbox[:size]
        return body

    def _read_chunked(self) -> bytes | None:
        while True:
            line = self._inbox.find(b"\r\n")
            if line < 0:
                return None
            try:
                size = int(bytes(self._inbox[:line]).partition(b";")[0], 16)
            except ValueError:
                msg = "the size of a chunk is not a number"
                raise BadRequestError(msg) from None
            start = line + 2
            if len(self._inbox) < start + size + 2:
                return None
            self._chunks += self._inbox[start : start + size]
            del self._inbox[: start + size + 2]
            if size == 0:
                body = bytes(self._chunks)
                self._chunks.clear()
                return body


@functools.lru_cache(maxsize=256)
def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Parse a head; clients send the same one again and again, so it is kept (and must not be changed)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        msg = "the first line is not that of an HTTP/1.1 request"
        raise BadRequestError(msg)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return words[0], words[1].partition("?")[0], headers
