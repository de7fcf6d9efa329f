"""How old a connection gets: the rule by which connections are renewed, one at a time."""

from __future__ import annotations

import random

#: Each waits half to one and a half of the usual time: at a fixed beat, equal requests would meet the same few again.
_SHORTEST, _LONGEST = 0.5, 1.5


class Renewal:
    """Says which request is the last of its connection. Pure; the random source may be passed in.

    A load balancer gives a server to a connection, not to a request, so connections that live for ever never reach a
    server that came later. The request that is marked carries ``connection: close``; the next one opens a new
    connection, and the balancer chooses again.

    Which connection a request takes is the HTTP library's choice and not known here, but time is: `n` busy connections
    are busy for `n` seconds each second. One of them ends whenever they have been busy for ``age_s / 2`` together,
    which is each ``age_s / (2 n)`` seconds: a connection lives for ``age_s / 2`` on average, and 1 - exp(-2) = 86 % are
    renewed within `age_s`. That is one handshake at a time and never a burst: at 1,000 connections and five minutes,
    about seven a second.

    Parameters
    ----------
    age_s : float
    rng : random.Random, optional
        For tests.

    Examples
    --------
    >>> renewal, last = Renewal(8.0, random.Random(1)), 0
    >>> for _ in range(4_000):
    ...     last += renewal.is_due()
    ...     renewal.worked(1.0)
    >>> 950 < last < 1_050  # one in four: half the age is four seconds
    True
    """

    def __init__(self, age_s: float, rng: random.Random | None = None) -> None:
        self._usual_s = age_s / 2
        self._rng = rng or random.Random()  # noqa: S311  spreads handshakes
        self._busy_s = 0.0
        self._due_s = self._next_s()

    def is_due(self) -> bool:
        """Tell whether the request that starts now is to be the last of its connection."""
        if self._busy_s < self._due_s:
            return False
        self._busy_s -= self._due_s
        self._due_s = self._next_s()
        return True

    def worked(self, busy_s: float) -> None:
        """Add the seconds for which a request that was answered had a connection."""
        self._busy_s += busy_s

    def _next_s(self) -> float:
        return self._usual_s * self._rng.uniform(_SHORTEST, _LONGEST)
