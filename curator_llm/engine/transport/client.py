"""The transport for any `LLMClient` or `AsyncLLMClient`: a method is called, and what it returns becomes a reply."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from curator_llm.engine.redaction import Redaction
from curator_llm.engine.transport.calls import NO_CONTENT, Calls
from curator_llm.engine.transport.causes import fault_in, reply_in, words_of
from curator_llm.engine.transport.deadlines import Deadlines
from curator_llm.engine.transport.library_logs import RedactedLogs
from curator_llm.engine.transport.threads import NoThreadError, Threads
from curator_llm.errors import ConfigurationError
from curator_llm.operations.base import ClientMethod
from curator_llm.services.model_client import AsyncLLMClient, LLMClient
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.exchange import Fault, Reply, Request

#: More threads than this would wait for each other, not for servers.
MOST_THREADS = 64


class ClientTransport:
    """Calls a client's method for each request.

    Parameters
    ----------
    client : LLMClient or AsyncLLMClient
    endpoint : Endpoint
    method : {"query_model", "query_reward_model"}
    max_reply_bytes : int
        A larger reply is dropped.
    """

    key_version = 0
    has_spare = False

    def __init__(
        self, client: LLMClient | AsyncLLMClient, endpoint: Endpoint, method: ClientMethod, *, max_reply_bytes: int
    ) -> None:
        self._calls = Calls(client, method)
        self._scores = method == "query_reward_model"
        self._max_reply_bytes = max_reply_bytes
        self._deadlines = Deadlines(endpoint.timeout)
        self._threads: Threads | None = None
        if not isinstance(client, AsyncLLMClient):
            self._threads = Threads(min(endpoint.max_concurrent_requests, MOST_THREADS), self._deadlines)
        self._redaction = Redaction()
        self._redaction.add(_keys_of(client))
        self._logs = RedactedLogs(self._redaction)

    def refresh_key(self, version: int) -> bool:  # noqa: ARG002
        """Find no other key: the client has its own."""
        return False

    def check(self, request: Request) -> None:
        """Refuse a parameter that the method does not accept.

        Raises
        ------
        ConfigurationError
        """
        self._calls.parameters(request.body)

    async def send(self, request: Request) -> Reply | Fault:
        """Call once."""
        started = time.monotonic()
        try:
            parameters = self._calls.parameters(request.body)
        except ConfigurationError as error:
            return Fault("local", False, str(error), 0.0)
        try:
            body = self._calls.body(await self._call(parameters))
        except BaseException as error:  # noqa: BLE001  a user's code may raise anything: it belongs to this row
            return self._judged(error, time.monotonic() - started)
        elapsed_s = time.monotonic() - started
        if len(body) > self._max_reply_bytes:
            return Fault("too_large", True, f"the reply is larger than {self._max_reply_bytes:,} bytes", elapsed_s)
        return Reply(200, {}, self._redaction.redact(body), elapsed_s)

    async def close(self) -> None:
        """End what is in flight, as far as it can be ended. `Clients` closes the client: others may share it."""
        self._deadlines.close()
        self._logs.close()
        if self._threads is not None:
            self._threads.close()

    async def _call(self, parameters: dict[str, Any]) -> Any:
        if self._threads is not None:
            return await self._threads.call(self._calls.call, parameters)
        async with self._deadlines.attempt():
            return await self._calls.call(**parameters)

    def _judged(self, error: BaseException, elapsed_s: float) -> Reply | Fault:
        redact = self._redaction.redact_words
        said = self._redaction.text(words_of(error))
        if isinstance(error, NoThreadError):
            return Fault("connect", False, str(error), elapsed_s)
        if isinstance(error, TimeoutError):
            return self._deadlines.passed(elapsed_s)
        found = reply_in(error, elapsed_s, self._max_reply_bytes, redact) or fault_in(error, elapsed_s, redact)
        if isinstance(found, Fault) and found.kind == "timeout":
            return self._deadlines.passed(elapsed_s)
        if found is not None:
            return found
        if isinstance(error, ValueError | RecursionError):  # the latter: JSON nested deeper than the client can read
            # What NeMo Curator's clients say of a reply without scores; all else is no completion.
            without_scores = self._scores and said.startswith("Logprobs not found")
            return Reply(200, {}, NO_CONTENT if without_scores else msgspec.json.encode(said), elapsed_s)
        return Fault("client_error", True, ": ".join(filter(None, [type(error).__name__, said]))[:500], elapsed_s)


def _keys_of(client: object) -> Iterable[str]:
    """Return the keys of a client, or of the SDK's client in it."""
    with contextlib.suppress(Exception):  # attributes of a user's client may be properties
        for holder in (client, getattr(client, "client", None)):
            key = getattr(holder, "api_key", None)
            if isinstance(key, str):
                yield key
