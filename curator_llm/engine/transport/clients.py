"""Clients of users: made by their function, once per engine, and closed with it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import operator
import os
import platform
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curator_llm.engine.transport.deadlines import Deadlines
from curator_llm.engine.transport.threads import NoThreadError, Threads
from curator_llm.errors import ConfigurationError, EngineError
from curator_llm.services.model_client import AsyncLLMClient, LLMClient

if TYPE_CHECKING:
    from openai import AsyncOpenAI

HAS_ENDED = "The engine of this process has ended. Run again: replies are kept."
_CLOSE_S = 5.0
_WANTED = "an openai.AsyncOpenAI (AsyncAzureOpenAI, ...), an LLMClient or an AsyncLLMClient of curator_llm.services"


class Clients:
    """The clients of one engine, by the reference of the function that makes them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: One for each reference: a function that takes long holds up nobody who asks for another client.
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._made: dict[str, Any] = {}
        self._closed = False

    def get(self, reference: str) -> AsyncOpenAI | LLMClient | AsyncLLMClient:
        """Return the client behind ``pkg.mod:factory``, making it at the first call.

        Raises
        ------
        ConfigurationError
            When it cannot be made on this machine, or is of no use.
        """
        with self._lock:
            making = self._making[reference]
        with making:
            client = self._made.get(reference)
            if client is None and not self._closed:
                client = self._made[reference] = _checked(_make(reference), reference)
            if self._closed:
                raise EngineError(HAS_ENDED)
            return client  # type: ignore[return-value]

    async def close(self) -> None:
        """Close what was made, all at once; nothing it raises matters any more."""
        self._closed = True
        made, self._made = list(self._made.values()), {}
        if not made:
            return
        deadlines = Deadlines(_CLOSE_S)
        threads = Threads(len(made), deadlines)
        await asyncio.gather(*(_close(client, threads, deadlines) for client in made))
        threads.close()


async def _close(client: Any, threads: Threads, deadlines: Deadlines) -> None:
    """Close a client, or the SDK's client in it; what may block does so in a thread."""
    with contextlib.suppress(BaseException):
        for holder in (client, getattr(client, "client", None)):
            close = getattr(holder, "aclose", None) or getattr(holder, "close", None)
            if close is not None:
                closing = close() if inspect.iscoroutinefunction(close) else await _called(close, threads)
                if inspect.isawaitable(closing):
                    async with deadlines.attempt():
                        await closing
                return


async def _called(close: Callable[[], Any], threads: Threads) -> Any:
    try:
        return await threads.call(close, {})
    except NoThreadError:  # as the interpreter ends
        return close()


def _make(reference: str) -> Any:
    """Call the user's function. Its exception's text may hold the key, so only the type is told."""
    here = f"on {platform.node() or 'this machine'} (process {os.getpid()})"
    module, _, name = reference.partition(":")
    try:
        factory = operator.attrgetter(name)(importlib.import_module(module))
    except ImportError as error:
        missing = f"no module {error.name!r}" if error.name else type(error).__name__
        msg = (
            f"client={reference!r} cannot be imported {here} ({missing}): the module must be importable on every "
            "worker, so install it there or send it with Client.upload_file."
        )
        raise ConfigurationError(msg) from None
    except Exception as error:  # noqa: BLE001  a user's module may raise anything
        found = f"has no {name!r}" if isinstance(error, AttributeError) else f"raised {type(error).__name__}"
        msg = f"client={reference!r}: the module {module} {found} {here}. It must be importable on every worker."
        raise ConfigurationError(msg) from None
    if not callable(factory):
        msg = f"client={reference!r} is of type {type(factory).__name__}: name a function that makes the client."
        raise ConfigurationError(msg)
    try:
        return factory()
    except Exception as error:  # noqa: BLE001  a user's function may raise anything
        msg = (
            f"client={reference!r} raised {type(error).__name__} {here}. Call it there by hand to see why: what it "
            "reads (variables, files) must be there on every worker, and it gets no arguments."
        )
        raise ConfigurationError(msg) from None


def _checked(made: Any, reference: str) -> Any:
    """Return what requests go through: of our own wrapper around the SDK the SDK's client, so that nothing is lost."""
    if "openai" in sys.modules:  # else it is none of the SDK's, and the SDK is not needed
        import openai

        from curator_llm.services.openai_client import AsyncOpenAIClient

        if type(made) is AsyncOpenAIClient and isinstance(made.client, openai.AsyncOpenAI):
            made = made.client
        if isinstance(made, openai.AsyncOpenAI):
            if made.is_closed():
                msg = (
                    f"client={reference!r} returned an {type(made).__name__} that is closed: make a new one at each "
                    "call. What is kept (in a variable, or by functools.cache) was closed with the engine that had it."
                )
                raise ConfigurationError(msg)
            return made
        if isinstance(made, openai.OpenAI):
            kind = type(made).__name__
            msg = (
                f"client={reference!r} returned an openai.{kind}, whose calls block: return an openai.Async{kind} "
                f"made with the same arguments."
            )
            raise ConfigurationError(msg)
    if isinstance(made, LLMClient | AsyncLLMClient):
        return made
    msg = f"client={reference!r} returned a {type(made).__name__}: return {_WANTED}."
    raise ConfigurationError(msg)
