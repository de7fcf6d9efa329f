"""The pace: how fast a server that asks to wait lets requests pass. Pure; the clock is passed in.

After the pause such a server asked for, requests that come all at once are refused all but one. So they start one by
one: at first as far apart as the server asked (a second at most) and twice as fast with each answer. Where it asks
again, what it let pass since the last pause is its pace: they go on a quarter slower, and a little faster with each
answer.
"""

from __future__ import annotations

import math

SLOWEST_FIRST_S = 1.0
SLOWEST_S = 60.0
#: Closer together than this is not spaced.
CLOSEST_S = 0.001
SEARCHING, KEEPING = 0.5, 0.97
#: How much slower than measured it goes on, so that each refusal is followed by a good many answers.
SLOWER = 1.25


class Pace:
    """The rule of one line.

    Attributes
    ----------
    interval_s : float
        How far apart requests start; 0 while the server asks for nothing.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.asked(wait_s=0.5, sent_at=0.0, now=0.0)
    >>> pace.interval_s
    0.5
    """

    def __init__(self) -> None:
        self.interval_s = 0.0
        self._faster = SEARCHING
        self._was_late = False
        self._asked_at = -math.inf
        self._resumes_at = 0.0
        self._passed = 0
        self._started_at = -math.inf

    def asked(self, wait_s: float, sent_at: float, now: float) -> None:
        """Take a wait that the server asked for into account; those of one burst are one."""
        resumes_at = now + wait_s
        if sent_at <= self._asked_at:
            self._resumes_at = max(self._resumes_at, resumes_at)
            return
        if not self.interval_s:
            self.interval_s, self._faster = min(wait_s, SLOWEST_FIRST_S), SEARCHING
        elif self._passed and not self._was_late:
            measured_s = max(0.0, resumes_at - self._resumes_at) / self._passed
            self.interval_s = min(SLOWEST_S, SLOWER * measured_s)
            self._faster = KEEPING
        self._asked_at, self._resumes_at, self._passed, self._was_late = now, resumes_at, 0, False
        self._started_at = -math.inf  # what was refused spaces nothing: the pause does

    def answered(self, sent_at: float) -> None:
        """Go a little faster, unless what was answered had been sent before the pause."""
        if self.interval_s and sent_at > self._asked_at:
            self._passed += 1
            self.interval_s *= self._faster
            if self.interval_s < CLOSEST_S:
                self.interval_s = 0.0

    def started(self, now: float) -> None:
        """Note a start. One that comes late had something else to wait for, and then nothing is measured."""
        if self.interval_s:
            self._was_late |= now > max(self._started_at, self._resumes_at) + 2 * self.interval_s
        self._started_at = now

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next start."""
        return max(0.0, self._started_at + self.interval_s - now)
