"""A model server for tests: speaks the OpenAI API on loopback, answers what a test can compute, fails on demand.

This module covers `FakeServer`: its thread, its life and what a test may ask of it while it runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import ssl as tls
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from curator_llm.testing.connection import Connection, Hub
from curator_llm.testing.desk import Answer, Desk, RewardDialect, Settings
from curator_llm.testing.ledger import Book, Ledger
from curator_llm.testing.scripts import FaultScript, LatencyScript

_BACKLOG = 4096


class FakeServer:
    """An OpenAI-compatible server on a loopback port, in a thread of its own.

    It answers ``POST .../chat/completions`` (choices, streams, logprobs, JSON schemas, token limits; reward scores for
    a model with ``reward`` in its name) and ``GET .../models``. What it answers is a pure function of the prompt, the
    text of the last user message, so that a test can check every row's own answer.

    Parameters
    ----------
    answer : str, mapping or callable, optional
        What to answer instead of `answer_to`: a text; the fields of the message as a mapping (``finish_reason`` and
        ``logprobs`` in it go to the choice); or a function of the prompt, or of the prompt and the decoded body, that
        gives one of these, or None for the default. Runs on the server's thread and must not block.
    latency : float or callable
        Seconds from the last byte of a request to the first byte of its reply, or a function of ``(prompt, attempt)``
        that gives them, such as `long_tailed`. Refusals (key, model, quota) come at once.
    models : sequence of str, optional
        The models it has; others get a 404. Default: every name is a model.
    api_key : str, optional
        The key it asks for, as ``Authorization: Bearer KEY`` or, like Azure, as ``api-key: KEY``; requests with another
        one get a 401. Default: no key is needed.
    requests_per_minute, tokens_per_minute : float, optional
        Quotas, kept in buckets that fill evenly: requests above get a 429 with ``retry-after``. A request costs its
        input tokens and its ``max_tokens``.
    burst : float, optional
        How many requests the full bucket holds. Default: those of one minute.
    max_concurrent_requests : int, optional
        Requests above this many in flight get a 503.
    faults : callable, optional
        A function of ``(prompt, attempt)`` that gives the name of a fault out of `FAULTS` or None: `seeded_faults`,
        `faults_named_in_prompt` or the test's own. Attempts are counted for each prompt, from 1; requests that were
        refused before (key, model, quota) do not count.
    redirect_to : str, optional
        The base URL to which the fault ``redirect`` leads.
    only_max_completion_tokens : bool
        Refuse ``max_tokens`` with a 400, as newer OpenAI models do.
    only_max_tokens : bool
        Refuse ``max_completion_tokens`` with a 400, as servers do that know the older name alone.
    reward_dialect : {"logprobs", "content", "number"}
        How a reward model gives its scores.
    host, port : str, int
        Where it listens; port 0 takes a free one, which it keeps over a `close` and another `start`.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    remember : int
        How many requests the ledger keeps whole; the counts go on after that.

    Attributes
    ----------
    base_url : str
        ``http://127.0.0.1:PORT/v1``.

    Raises
    ------
    OSError
        From `start`, when the port is taken.

    Notes
    -----
    About 7,000 requests a second on one core, when nothing else needs that core; several thousand connections, as long
    as the process may open enough files (a connection within one process takes two). Use `FakeServerProcess` to keep
    the server out of the test's process.

    Examples
    --------
    >>> import json, urllib.request
    >>> from curator_llm.testing import FakeServer, answer_to
    >>> def ask(server, prompt):
    ...     body = {"model": "any", "messages": [{"role": "user", "content": prompt}]}
    ...     url = f"{server.base_url}/chat/completions"
    ...     with urllib.request.urlopen(url, json.dumps(body).encode()) as reply:
    ...         return json.load(reply)["choices"][0]["message"]["content"]
    >>> with FakeServer() as server:
    ...     ask(server, "Why?") == answer_to("Why?")
    True
    >>> server.ledger.requests, server.ledger.peak_in_flight
    (1, 1)
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        latency: float | LatencyScript = 0.0,
        models: Sequence[str] | None = None,
        api_key: str | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        burst: float | None = None,
        max_concurrent_requests: int | None = None,
        faults: FaultScript | None = None,
        redirect_to: str | None = None,
        only_max_completion_tokens: bool = False,
        only_max_tokens: bool = False,
        reward_dialect: RewardDialect = "logprobs",
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        remember: int = 100_000,
    ) -> None:
        self._settings = Settings(
            answer=answer,
            latency=latency,
            models=None if models is None else tuple(models),
            api_key=api_key,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            burst=burst,
            max_concurrent_requests=max_concurrent_requests,
            faults=faults,
            redirect_to=redirect_to,
            only_max_completion_tokens=only_max_completion_tokens,
            only_max_tokens=only_max_tokens,
            reward_dialect=reward_dialect,
        )
        self._host = host
        self._port = port
        self._ssl = ssl
        self._book = Book(remember)
        self._desk = Desk(self._settings, time.monotonic())
        self._hub = Hub(self._desk, self._book)
        # start, close and calls from several threads take turns.
        self._turn = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"FakeServer({self.base_url if self._thread else 'not running'})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        errors = self._book.snapshot().errors
        if error is None and errors:
            msg = f"{len(errors)} requests failed in the functions given to FakeServer; the first: {errors[0]}"
            raise RuntimeError(msg)

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first `start` if none was asked for."""
        return self._port

    @property
    def base_url(self) -> str:
        """The URL to give to a client, ``/v1`` included."""
        return f"{'https' if self._ssl else 'http'}://{self._host}:{self._port}/v1"

    @property
    def ledger(self) -> Ledger:
        """What the server has seen and done so far: a snapshot, also after `close`. Costs 10 us per 1,000 requests."""
        return self._book.snapshot()

    def start(self) -> Self:
        """Listen. Does nothing when the server runs.

        Returns
        -------
        FakeServer
            Itself, accepting connections.

        Raises
        ------
        OSError
            When the port is taken.
        """
        with self._turn:
            if self._thread is None:
                self._start()
        return self

    def close(self) -> None:
        """Cut every connection and stop listening; `start` comes back on the same port, with the ledger as it was."""
        with self._turn:
            if self._thread is not None:
                self._call(self._set_stop)
                self._thread.join()
                self._thread = None

    def reset(self) -> None:
        """Empty the ledger and count attempts from 1 again. What is in flight stays in `Ledger.in_flight` alone."""
        self._call(self._desk.attempts.clear)
        self._book.reset()

    def pause(self) -> None:
        """Hold every reply, refusals and faults too, until `resume`. Requests go on being read and counted."""
        self._call(self._hub.pause)

    def resume(self, count: int | None = None) -> None:
        """Write the replies that `pause` held.

        Parameters
        ----------
        count : int, optional
            Write only this many, the oldest first, and stay paused. Default: all, and go on.
        """
        self._call(lambda: self._hub.resume(count))

    def drop_connections(self) -> None:
        """Reset every open connection, as a restarting server does, and go on listening."""
        self._call(self._hub.abort)

    def change(self, **settings: Any) -> None:
        """Change how the server behaves from the next request on. Quotas start full again.

        Parameters
        ----------
        **settings : object
            Any of the constructor's parameters from `answer` to `reward_dialect`.

        Raises
        ------
        TypeError
            When there is no such parameter.

        Examples
        --------
        >>> with FakeServer(api_key="old") as server:
        ...     server.change(api_key="new", latency=0.5)
        """
        new = dataclasses.replace(self._settings, **settings)
        self._call(lambda: self._desk.use(new, time.monotonic()))
        self._settings = new

    def wait_until(self, predicate: Callable[[Ledger], object], timeout_s: float = 10.0) -> Ledger:
        """Wait until the ledger is as a test needs it, instead of sleeping.

        Parameters
        ----------
        predicate : callable
            A function of the ledger, called again after changes until it gives something true.
        timeout_s : float
            Seconds to wait at most.

        Returns
        -------
        Ledger
            The one for which it was true.

        Raises
        ------
        TimeoutError
            With the ledger as it was at the end.

        Examples
        --------
        >>> with FakeServer() as server:
        ...     ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
        """
        holds, ledger = self._book.wait_until(predicate, timeout_s)
        if not holds:
            msg = f"not so within {timeout_s} s; the last ledger: {ledger}"
            raise TimeoutError(msg)
        return ledger

    def _start(self) -> None:
        started: concurrent.futures.Future[int] = concurrent.futures.Future()
        thread = threading.Thread(target=self._run, args=(started,), name="curator-llm-fake-server", daemon=True)
        thread.start()
        try:
            self._port = started.result()
        except OSError:
            thread.join()
            raise
        self._thread = thread

    def _call(self, action: Callable[[], object]) -> None:
        """Run something on the server's thread, and wait for it."""
        if threading.current_thread() is self._thread:
            # A function of the test (answer, faults) called.
            action()
            return
        with self._turn:
            if self._thread is None or self._loop is None:
                action()
            else:
                self._call_across(self._loop, action)

    @staticmethod
    def _call_across(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def run() -> None:
            try:
                action()
            except BaseException as error:  # noqa: BLE001  it is raised in the thread that asked
                done.set_exception(error)
            else:
                done.set_result(None)

        loop.call_soon_threadsafe(run)
        done.result()

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), OSError):
            self._book.error(str(context.get("exception") or context.get("message")))

    def _set_stop(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def _run(self, started: concurrent.futures.Future[int]) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: concurrent.futures.Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note)
        self._stop = asyncio.Event()
        self._hub.open()
        try:
            server = await self._loop.create_server(
                lambda: Connection(self._hub), self._host, self._port, backlog=_BACKLOG, ssl=self._ssl
            )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        # A connection accepted in this very turn must find the server still open: asyncio would leak its socket.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        await self._hub.close()
        server.close()
