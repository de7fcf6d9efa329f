"""The window: how many requests a throttling server seems to bear.

It starts wide open. The first 429 or 503 of a burst cuts it to three quarters of what was in flight; replies to
requests sent before the cut belong to the same burst and cut no further. Each good reply opens it again, by one up to
half of where it was cut, then by one per window.
"""

from __future__ import annotations

import math

CUT = 0.75


class Window:
    """The rule of one line. Pure; the clock is passed in.

    Examples
    --------
    >>> window = Window()
    >>> window.throttled(in_flight=8, sent_at=0.0, now=1.0)
    >>> window.size
    6.0
    """

    def __init__(self) -> None:
        self.size = math.inf
        self._threshold = math.inf
        self._cut_at = -math.inf

    def throttled(self, in_flight: int, sent_at: float, now: float) -> None:
        """Cut, unless the request was sent before the last cut."""
        if sent_at <= self._cut_at:
            return
        before = min(self.size, in_flight)
        self.size = max(1.0, before * CUT)
        self._threshold = max(1.0, before / 2)
        self._cut_at = now

    def succeeded(self, cap: int) -> None:
        """Open by one reply's worth; at the cap it is wide open again."""
        if self.size < math.inf:
            self.size += 1.0 if self.size < self._threshold else 1.0 / self.size
            if self.size >= cap:
                self.size = math.inf
