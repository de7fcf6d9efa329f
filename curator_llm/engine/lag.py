"""When the loop was late: other threads held the interpreter, or the machine slept. No server is to blame for that."""

from __future__ import annotations

import asyncio
import time
from collections import deque

#: How often the loop is looked at.
LOOK_S = 0.25
#: Less is usual.
LATE_S = 1.0


class Lag:
    """Knows when a loop was late; used on the loop alone.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._looked_at = time.monotonic()
        self._late: deque[float] = deque(maxlen=100)

    def watch(self) -> None:
        """Look from now on."""
        self._looked_at = time.monotonic()
        self._loop.call_later(LOOK_S, self._look)

    def was_late(self, since: float) -> bool:
        """Tell whether the loop was late by `LATE_S` or more at some time since."""
        now = time.monotonic()
        if now - max(since, self._looked_at) >= LOOK_S + LATE_S:
            return True  # it is late right now
        return any(until > since for until in self._late)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S + LATE_S:
            self._late.append(now)
        self.watch()
