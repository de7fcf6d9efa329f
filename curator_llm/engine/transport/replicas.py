"""Several addresses of one model: who gets the next request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curator_llm.spec.addresses import origin_of

#: A replica that failed rests this long, doubling with each further failure. One that fails at once has the fewest
#: requests in flight, and would draw all of them.
FIRST_REST_S = 1.0
LONGEST_REST_S = 30.0


@dataclass(slots=True, eq=False)
class Replica:
    """An address."""

    base_url: str
    origin: str
    in_flight: int = 0
    taken_at: int = 0
    failures: int = 0
    rests_until: float = 0.0


class Replicas:
    """The addresses of an endpoint. Pure; the clock is passed in.

    Examples
    --------
    >>> replicas = Replicas(["http://a/v1", "http://b/v1"])
    >>> [replicas.take(0.0).base_url for _ in range(3)]
    ['http://a/v1', 'http://b/v1', 'http://a/v1']
    """

    def __init__(self, base_urls: Sequence[str]) -> None:
        self._replicas = [Replica(url, origin_of(url)) for url in base_urls]
        self._taken = 0

    def has_spare(self, now: float) -> bool:
        """Tell whether there are several addresses and one of them does not rest."""
        return len(self._replicas) > 1 and any(each.rests_until <= now for each in self._replicas)

    def take(self, now: float) -> Replica:
        """Return the replica with the fewest requests in flight, the longest unused of equals; a resting one last."""
        replica = min(self._replicas, key=lambda each: (each.rests_until > now, each.in_flight, each.taken_at))
        self._taken += 1
        replica.in_flight += 1
        replica.taken_at = self._taken
        return replica

    def give_back(self, replica: Replica, *, failed: bool, now: float) -> None:
        """Say how a request ended."""
        replica.in_flight -= 1
        if failed:
            replica.rests_until = now + min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(replica.failures, 10))
            replica.failures += 1
        else:
            replica.failures, replica.rests_until = 0, 0.0
