"""Deadlines of what is awaited; they also end when the transport does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from curator_llm.wire.exchange import Fault

#: Of a connection, for every transport that opens its own.
CONNECT_TIMEOUT_S = 10.0


class Deadlines:
    """Gives each attempt its time, and ends all of them when the process ends.

    Parameters
    ----------
    timeout_s : float
        Of one attempt.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._closed = False
        self._running: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Raise TimeoutError in the body of the ``with`` at its deadline."""
        async with asyncio.timeout(0 if self._closed else self._timeout_s) as deadline:
            self._running.add(deadline)
            try:
                yield
            finally:
                self._running.discard(deadline)

    def passed(self, elapsed_s: float) -> Fault:
        """Return the fault of an attempt that was cut off."""
        if self._closed:
            return Fault("closed", True, "the engine of this process is closing", elapsed_s)
        return Fault("timeout", True, f"no complete reply within {self._timeout_s:g} s", elapsed_s)

    def close(self) -> None:
        """End what is running, and what starts from now on."""
        self._closed = True
        for deadline in self._running:
            if not deadline.expired():
                deadline.reschedule(0)
