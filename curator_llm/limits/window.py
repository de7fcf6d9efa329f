"""The window: how many requests a throttling server seems to bear.

It starts wide open. The first 429 or 503 of a burst cuts it to three quarters of what was in flight; replies to
requests sent before the cut belong to the same burst and cut no further. Good replies open it again, by one for each
window of them; if it had not been full, what the server bears is not known, and each good reply opens it by one.
"""

from __future__ import annotations

import math

CUT = 0.75


class Window:
    """The rule of one line. Pure; the clock is passed in.

    Examples
    --------
    >>> window = Window()
    >>> window.throttled(in_flight=8, sent_at=0.0, now=1.0, cap=8)
    >>> window.size
    6.0
    """

    def __init__(self) -> None:
        self.size = math.inf
        self._threshold = math.inf
        self._cut_at = -math.inf

    def throttled(self, in_flight: int, sent_at: float, now: float, *, cap: int) -> None:
        """Cut, unless the request was sent before the last cut."""
        if sent_at <= self._cut_at:
            return
        was_full = in_flight >= min(self.size, cap)
        self.size = max(1.0, min(self.size, in_flight) * CUT)
        self._threshold = self.size if was_full else cap
        self._cut_at = now

    def succeeded(self, cap: int) -> None:
        """Open by one reply's worth; at the cap it is wide open again."""
        if self.size < math.inf:
            self.size += 1.0 if self.size < self._threshold else 1.0 / self.size
            if self.size >= cap:
                self.size = math.inf
