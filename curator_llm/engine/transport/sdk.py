"""The transport for a user's ``openai.AsyncOpenAI``: Azure, gateways, and what else the SDK knows how to reach.

The request goes through the SDK's own ``post``, so that its address, its key and its subclasses' changes hold; the
reply comes back as bytes, undecoded and in pieces. What the SDK must be told, as measured: no retries, no redirects, no
compression, a streamed body. It reads the body of an error whole, so there only the deadline is a limit.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from curator_llm.engine.redaction import Redaction
from curator_llm.engine.transport.causes import fault_in, kept, reply_in, words_of
from curator_llm.engine.transport.deadlines import CONNECT_TIMEOUT_S, Deadlines
from curator_llm.engine.transport.library_logs import RedactedLogs
from curator_llm.engine.transport.renewal import Renewal
from curator_llm.spec.addresses import origin_of
from curator_llm.spec.endpoint import SECRET_HEADER, Endpoint
from curator_llm.wire.exchange import Fault, Reply, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

#: Waiting for a connection ends a little before the attempt does, so that it can say that nothing was sent.
_OF_THE_DEADLINE = 0.9

#: A model's text was paid for: out of it go only what is a credential by its name, and what looks like one.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})
_KEY = re.compile(r"\S{16,}")


class SdkTransport:
    """Sends through the SDK's client.

    Parameters
    ----------
    client : openai.AsyncOpenAI
    endpoint : Endpoint
        Its timeout holds, not the client's.
    max_reply_bytes : int
        A larger body is dropped.
    age_s : float
        How long a connection is kept in use.
    """

    key_version = 0
    has_spare = False

    def __init__(self, client: AsyncOpenAI, endpoint: Endpoint, *, max_reply_bytes: int, age_s: float) -> None:
        import httpx2

        self._client = client
        self._max_reply_bytes = max_reply_bytes
        self._deadlines = Deadlines(endpoint.timeout)
        self._renewal = Renewal(age_s)
        self._closes = False  # until a reply shows HTTP/1: in HTTP/2 a request must not ask for it
        key = client.api_key  # a user's subclass may hold anything
        self._keys = [key] if isinstance(key, str) else []
        self._redaction = Redaction(self._keys)
        self._logs = RedactedLogs(self._redaction)
        with contextlib.suppress(Exception):  # attributes of a user's subclass may raise
            self._learn([*client.default_headers.items(), *client.default_query.items()], client.base_url.password)
        self._response: Any = httpx2.Response
        at_most_s = _OF_THE_DEADLINE * endpoint.timeout
        self._timeout = httpx2.Timeout(endpoint.timeout, connect=min(CONNECT_TIMEOUT_S, at_most_s), pool=at_most_s)

    def refresh_key(self, version: int) -> bool:  # noqa: ARG002
        """Find no other key: the SDK asks its provider, if it has one, before each request."""
        return False

    def check(self, request: Request) -> None:
        """Refuse nothing: the body goes out as it is."""

    async def send(self, request: Request) -> Reply | Fault:
        """Send once."""
        started, response = time.monotonic(), None
        outcome: Reply | Fault
        try:
            async with self._deadlines.attempt():
                response = await self._post(request)
                outcome = await self._read(response, started)
        except TimeoutError:
            outcome = self._deadlines.passed(time.monotonic() - started)
        except BaseException as error:  # noqa: BLE001  a user's code may raise anything: it belongs to this row
            outcome = self._judged(error, time.monotonic() - started, answered=response is not None)
        if isinstance(outcome, Reply):
            self._renewal.worked(outcome.elapsed_s)
        return outcome

    async def close(self) -> None:
        """End what is in flight. `Clients` closes the client: other transports of the engine may share it."""
        self._deadlines.close()
        self._logs.close()

    async def _post(self, request: Request) -> Any:
        headers = {"X-Stainless-Raw-Response": "stream", "accept-encoding": "identity"}
        if self._closes and self._renewal.is_due():
            headers["connection"] = "close"
        return await self._client.post(
            f"/{request.path}",
            cast_to=self._response,
            body=msgspec.json.decode(request.body),  # Azure takes the deployment for the URL from it
            options={"max_retries": 0, "follow_redirects": False, "timeout": self._timeout, "headers": headers},
        )

    async def _read(self, response: Any, started: float) -> Reply | Fault:
        try:
            secrets = self._learn_of(response.request)
            self._closes = response.http_version.startswith("HTTP/1")
            pieces, size = [], 0
            async for piece in _pieces(response):
                pieces.append(piece)
                size += len(piece)
                if size > self._max_reply_bytes:
                    said = f"the reply is larger than {self._max_reply_bytes:,} bytes"
                    return Fault("too_large", True, said, time.monotonic() - started)
            body = Redaction([*self._keys, *secrets]).redact(b"".join(pieces))
            elapsed_s, origin = time.monotonic() - started, origin_of(str(response.url))
            return Reply(response.status_code, kept(response.headers, self._redaction.redact), body, elapsed_s, origin)
        finally:
            await response.aclose()

    def _judged(self, error: BaseException, elapsed_s: float, *, answered: bool) -> Reply | Fault:
        with contextlib.suppress(Exception):  # httpx raises when there is no request
            self._learn_of(error.request)  # type: ignore[attr-defined]
        redact = self._redaction.redact_words
        found = reply_in(error, elapsed_s, self._max_reply_bytes, redact) or fault_in(error, elapsed_s, redact)
        if isinstance(found, Fault) and found.kind == "timeout":
            return self._deadlines.passed(elapsed_s)
        said = self._redaction.text(": ".join(filter(None, [type(error).__name__, words_of(error)])))[:500]
        # All else comes from before the request: no credentials, a provider of tokens that fails, a gateway's own code.
        return found or Fault("client_error", answered, said, elapsed_s)

    def _learn_of(self, request: Any) -> list[str]:
        return self._learn([*request.headers.items(), *request.url.params.multi_items()], request.url.password)

    def _learn(self, sent: list[tuple[Any, Any]], password: str | None) -> list[str]:
        """Take note of what is sent: keys of a provider, tokens of Azure, what gateways ask for, also in the address.

        Returns what is a secret for sure.
        """
        texts = [(name.lower(), value) for name, value in sent if isinstance(name, str) and isinstance(value, str)]
        found = [(name, value) for name, value in texts if SECRET_HEADER.search(name)]
        passwords = [password] if password else []
        self._redaction.add([*self._keys, *passwords, *(value for _, value in found)])
        return [*passwords, *(value for name, value in found if name in _CREDENTIALS or _KEY.fullmatch(value))]


async def _pieces(response: Any) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:  # a cache, or a transport of a test, had it whole
        yield response.content
        return
    async for piece in response.aiter_raw():
        yield piece
