"""The transport for any `LLMClient` or `AsyncLLMClient`: a method is called, and what it returns becomes a reply."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from curator_llm.engine.redaction import Redaction
from curator_llm.engine.transport.calls import NO_CONTENT, Calls
from curator_llm.engine.transport.causes import fault_in, reply_in
from curator_llm.engine.transport.deadlines import Deadlines
from curator_llm.errors import ConfigurationError
from curator_llm.operations.base import ClientMethod
from curator_llm.services.model_client import AsyncLLMClient, LLMClient
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.envelopes import one_line
from curator_llm.wire.exchange import Fault, Reply, Request

#: More threads than this would wait for each other, not for servers.
MOST_THREADS = 64
#: What looks like a key in the words of a client whose key is not known.
_KEY = re.compile(r"\bsk-[\w-]{6,}|(?<=Bearer )[^\s'\"]+")


class NoThreadError(Exception):
    """No thread was free before the deadline: nothing was called."""


class _Caller(Protocol):
    """How a method is called."""

    async def __call__(self, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        """Return what the call returns; raise what it raises, or TimeoutError at the deadline."""

    def close(self) -> None:
        """Let go of threads."""


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

    def __init__(
        self, client: LLMClient | AsyncLLMClient, endpoint: Endpoint, method: ClientMethod, *, max_reply_bytes: int
    ) -> None:
        self._calls = Calls(client, method)
        self._scores = method == "query_reward_model"
        self._max_reply_bytes = max_reply_bytes
        self._deadlines = Deadlines(endpoint.timeout)
        self._caller: _Caller
        if isinstance(client, AsyncLLMClient):
            self._caller = _Awaited(self._deadlines)
        else:
            self._caller = _Threaded(self._deadlines, endpoint)
        self._redaction = Redaction()
        self._redaction.add(_keys_of(client))

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
            body = self._calls.body(await self._caller(self._calls.call, parameters))
        except BaseException as error:  # noqa: BLE001  a user's code may raise anything: it belongs to this row
            return self._judged(error, time.monotonic() - started)
        elapsed_s = time.monotonic() - started
        if len(body) > self._max_reply_bytes:
            return Fault("too_large", True, f"the reply is larger than {self._max_reply_bytes:,} bytes", elapsed_s)
        return Reply(200, {}, self._redaction.redact(body), elapsed_s)

    async def close(self) -> None:
        """End what is in flight, as far as it can be ended. The client is its maker's to close."""
        self._deadlines.close()
        self._caller.close()

    def _judged(self, error: BaseException, elapsed_s: float) -> Reply | Fault:
        redact = self._redaction.redact
        said = _KEY.sub("[redacted]", self._redaction.text(one_line(str(error).partition("\n")[0])))
        if isinstance(error, NoThreadError):
            return Fault("connect", False, str(error), elapsed_s)
        if isinstance(error, TimeoutError):
            return self._deadlines.passed(elapsed_s)
        found = reply_in(error, elapsed_s, self._max_reply_bytes, redact) or fault_in(error, elapsed_s, redact)
        if isinstance(found, Fault) and found.kind == "timeout":
            return self._deadlines.passed(elapsed_s)
        if found is not None:
            return found
        if isinstance(error, ValueError):
            # What NeMo Curator's clients say of a reply without scores; all else is no completion.
            without_scores = self._scores and said.startswith("Logprobs not found")
            return Reply(200, {}, NO_CONTENT if without_scores else msgspec.json.encode(said), elapsed_s)
        return Fault("client_error", True, ": ".join(filter(None, [type(error).__name__, said]))[:500], elapsed_s)


class _Awaited:
    """Awaits a client's coroutines on the engine's loop."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines

    async def __call__(self, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        async with self._deadlines.attempt():
            return await call(**parameters)

    def close(self) -> None:
        """Do nothing."""


class _Threaded:
    """Calls what blocks in threads.

    A thread cannot be stopped: past its deadline a call is given up, and its thread is free when it returns.
    """

    def __init__(self, deadlines: Deadlines, endpoint: Endpoint) -> None:
        threads = min(endpoint.max_concurrent_requests, MOST_THREADS)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="curator-llm client")
        self._free = asyncio.Semaphore(threads)
        self._deadlines = deadlines

    async def __call__(self, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        try:
            async with self._deadlines.attempt():
                await self._free.acquire()
        except TimeoutError:
            msg = "no thread was free: earlier calls of the client have passed their deadline and not returned"
            raise NoThreadError(msg) from None
        loop = asyncio.get_running_loop()
        try:
            job = self._pool.submit(call, **parameters)
        except RuntimeError:  # the interpreter is ending
            self._free.release()
            msg = "the process is ending"
            raise NoThreadError(msg) from None
        job.add_done_callback(lambda _: self._give_back(loop))
        async with self._deadlines.attempt():
            return await asyncio.wrap_future(job)

    def close(self) -> None:
        """Take no more calls; do not wait for those that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._free.release)


def _keys_of(client: object) -> Iterable[str]:
    """Return the keys of a client, or of the SDK's client in it."""
    for holder in (client, getattr(client, "client", None)):
        key = getattr(holder, "api_key", None)
        if isinstance(key, str):
            yield key
