"""Threads for calls that block. Daemons: a call that never returns must not keep the interpreter from ending."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from curator_llm.engine.transport.deadlines import Deadlines

_Job = tuple[Future[Any], Callable[..., Any], Mapping[str, Any]]


class NoThreadError(Exception):
    """No thread was free before the deadline, or could be started: nothing was called."""


class Threads:
    """Calls beside each other, each under a deadline. Belongs to the engine's loop.

    A thread cannot be stopped: past its deadline a call is given up, and its thread is free when it returns.

    Parameters
    ----------
    most : int
        Threads at one moment; started when they are needed.
    deadlines : Deadlines
    """

    def __init__(self, most: int, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._free = asyncio.Semaphore(most)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = self._running = 0

    async def call(self, call: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
        """Return what a call returns; the deadline counts from its start.

        Raises
        ------
        NoThreadError
            When all threads are held by calls longer than the deadline, or the process can start none.
        TimeoutError
            At the deadline; the call may still be running.
        """
        try:
            async with self._deadlines.attempt():
                await self._free.acquire()
        except TimeoutError:
            msg = "no thread was free: earlier calls of the client have passed their deadline and not returned"
            raise NoThreadError(msg) from None
        self._running += 1
        if self._running > self._started:
            name = f"curator-llm client {self._started + 1}"
            try:
                threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True).start()
            except RuntimeError as error:  # at the limit of the system, or as the interpreter ends
                self._give_back()
                raise NoThreadError(str(error)) from None
            self._started += 1
        job: Future[Any] = Future()
        loop = asyncio.get_running_loop()
        job.add_done_callback(lambda _: self._give_back_soon(loop))
        self._jobs.put((job, call, parameters))
        async with self._deadlines.attempt():
            return await asyncio.wrap_future(job)

    def close(self) -> None:
        """Let threads end when their calls do."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _give_back_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        self._running -= 1
        self._free.release()


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, call, parameters = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call(**parameters))
            except StopIteration:  # no future can raise it
                future.set_exception(RuntimeError("the call raised StopIteration"))
            except BaseException as error:  # noqa: BLE001  it is raised in the row that asked
                future.set_exception(error)
        del job, future, call, parameters  # a reply must not stay in memory until the next call
