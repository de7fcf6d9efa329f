"""The window: how many requests a server seems to bear. One pure rule for throttling, for outages and for recovery.

It starts wide open. Three things make it smaller:

- The first 429 or 503 of a burst cuts it to three quarters of what was in flight; replies to requests sent before the
  cut belong to the same burst and cut no further. (While it answers others that is all. Once it throttles as many in a
  row as are in flight nothing passes, and the window rests at one as in an outage.)
- A server that fails more requests than it answers is cut in the same way (`CREDIT` failures are borne beyond that).
- `IN_A_ROW` failures without an answer between them, or half of what is in flight if that is more, are an outage: the
  window rests at one. (A server that fails three in ten at random does so five times in a row every 400 requests, and
  half of 64 in a row never.) After 1, 2, 4 and then
  every `LONGEST_REST_S` seconds one request tries, and the first answer ends the outage.

Good replies open it again: by one each up to where it stood before (doubling with each round trip), then by one for
each window of them, until it is wide open. Where it was not full when it was cut, what the server bears is not known,
and each good reply opens it by one.
"""

from __future__ import annotations

import math

CUT = 0.75
IN_A_ROW = 5
LONGEST_REST_S = 5.0
CREDIT = 100


class Window:
    """The rule of one line. Pure; the clock is passed in.

    Attributes
    ----------
    size : float
        How many requests may be in flight; inf while it is wide open.
    resting_since : float or None
        When the outage that is under way began.

    Examples
    --------
    >>> window = Window()
    >>> window.throttled(in_flight=8, sent_at=0.0, now=1.0, cap=8), window.size
    (0.0, 6.0)
    >>> [window.failed(in_flight=6, sent_at=2.0, now=3.0, cap=8) for _ in range(5)], window.size
    ([0.0, 0.0, 0.0, 0.0, 1.0], 1.0)
    """

    def __init__(self) -> None:
        self.size = math.inf
        self.resting_since: float | None = None
        self._threshold = math.inf
        self._cut_at = -math.inf
        self._in_a_row = self._throttled_in_a_row = 0
        self._nothing_passes, self._stood_at = False, math.inf
        self._credit = CREDIT
        self._rest_s = 0.0

    def throttled(self, in_flight: int, sent_at: float, now: float, *, cap: int) -> float:
        """Cut, unless the request was sent before the last cut; return how long nothing is to start, in seconds.

        The server is there: an outage has ended.
        """
        self._in_a_row, self.resting_since = 0, None
        if not self._throttled_in_a_row:
            self._stood_at = min(self.size, cap)
        self._throttled_in_a_row += 1
        if self._nothing_passes and sent_at <= self._cut_at:
            return 0.0  # it was under way when the rest began
        self._cut(in_flight, sent_at, now, cap)
        if self._throttled_in_a_row < in_flight:
            return 0.0
        self._rest_s = min(LONGEST_REST_S, 2 * self._rest_s) if self._nothing_passes else 1.0
        self._nothing_passes, self._cut_at, self.size, self._threshold = True, now, 1.0, self._stood_at
        return self._rest_s

    def failed(self, in_flight: int, sent_at: float, now: float, *, cap: int) -> float:
        """Count a failure that says nothing about its row; return how long nothing is to start, in seconds."""
        if self.resting_since is not None and sent_at <= self._cut_at:
            return 0.0  # it was under way when the outage began
        self._in_a_row += 1
        self._credit = max(0, self._credit - 1)
        if self.resting_since is not None:
            self._rest_s = min(LONGEST_REST_S, 2 * self._rest_s)
        elif self._in_a_row >= max(IN_A_ROW, in_flight // 2):
            self._threshold, self.size = max(1.0, min(self.size, cap)), 1.0
            self.resting_since, self._rest_s = now, 1.0
        else:
            if not self._credit:
                self._cut(in_flight, sent_at, now, cap)
            return 0.0
        self._cut_at = now
        return self._rest_s

    def succeeded(self, cap: int) -> None:
        """Open by one reply's worth; at the cap it is wide open again."""
        self._in_a_row, self._throttled_in_a_row, self.resting_since = 0, 0, None
        self._nothing_passes = False
        self._credit = min(CREDIT, self._credit + 1)
        if self.size < math.inf:
            self.size += 1.0 if self.size < self._threshold else 1.0 / self.size
            if self.size >= cap:
                self.size = math.inf

    def _cut(self, in_flight: int, sent_at: float, now: float, cap: int) -> None:
        if sent_at <= self._cut_at:
            return
        was_full = in_flight >= min(self.size, cap)
        self.size = max(1.0, min(self.size, in_flight) * CUT)
        self._threshold = self.size if was_full else cap
        self._cut_at = now
