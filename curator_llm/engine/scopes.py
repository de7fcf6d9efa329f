"""The limits of each quota scope, as far as they are this process's."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection, Mapping

from curator_llm.engine.file_limits import permits_within_file_limit
from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS
from curator_llm.limits.lease_book import LeaseBook, Report
from curator_llm.spec.endpoint import Endpoint, Limits


class Scopes:
    """Which limits hold for which scope.

    The engine's lock guards what changes them; values are replaced as a whole, so that its loop may read at any time.
    """

    def __init__(self) -> None:
        self._asked: dict[str, list[Limits]] = {}
        self._in_use: set[str] = set()
        self._warned: set[str] = set()
        self._books: dict[str, LeaseBook] = {}
        self._share = (0, 1)
        self._granted: dict[str, dict[str, float]] = {}
        self._leased = False
        self._seq = itertools.count()

    def add(self, endpoint: Endpoint, *, in_use: Collection[str]) -> bool:
        """Take an endpoint's limits into account; return whether those of its scope changed.

        Parameters
        ----------
        endpoint : Endpoint
        in_use : collection of str
            The scopes that have something under way. Where this one has not, its limits replace older ones, as when a
            notebook's cell is changed and run again.

        Warns
        -----
        UserWarning
            Once per scope, when endpoints of one scope disagree: the lowest limits hold.
        """
        limits = endpoint.limits
        self._in_use = {*in_use, limits.scope}
        alone = limits.scope not in in_use
        asked = self._asked.get(limits.scope, [])
        if asked == [limits] or (limits in asked and not alone):
            return False
        asked = self._asked[limits.scope] = [limits] if alone else [*asked, limits]
        if len(asked) > 1 and limits.scope not in self._warned:
            self._warned.add(limits.scope)
            warnings.warn(
                f"Two endpoints share the quota scope {limits.scope!r} with different limits: the lowest hold. "
                "Give both the same limits, or different `scope`s.",
                stacklevel=2,
            )
        self._books.setdefault(limits.scope, LeaseBook({})).resize(self._totals(limits.scope))
        return True

    def set_share(self, index: int, count: int) -> bool:
        """Take the share of member `index` of `count`; return whether that is new."""
        if (index, count) == self._share and not self._leased:
            return False
        self._share, self._leased = (index, count), False
        for scope, book in self._books.items():
            book.resize(self._totals(scope))
        return True

    def lease(self) -> None:
        """Use nothing but what is granted from now on."""
        self._share, self._leased = (0, 1), True
        for scope, book in self._books.items():
            book.resize(self._totals(scope))

    def grant(self, scope: str, amounts: Mapping[str, float]) -> dict[str, float]:
        """Take what was granted of a scope; return as much of it as this process can use."""
        self._leased = True
        self._granted[scope] = dict(amounts)
        return self.granted(scope)

    def granted(self, scope: str) -> dict[str, float]:
        """Return what this process may use of a scope: what was granted, or all its own book has."""
        book = self._books[scope]
        if self._leased:
            known = self._granted.get(scope, {})
            return {name: min(known.get(name, 0.0), total) for name, total in book.totals.items()}
        grant = book.sync(Report("this process", next(self._seq), held={}, want=book.totals))
        assert grant is not None  # noqa: S101  the sequence grows
        return dict(grant.amounts)

    def limits(self, scope: str) -> dict[str, float]:
        """Return the lowest limits that endpoints of this process ask for."""
        asked = self._asked[scope]
        found: dict[str, float] = {PERMITS: min(limits.max_concurrent_requests for limits in asked)}
        for name, rates in (
            (REQUESTS, [limits.max_requests_per_minute for limits in asked]),
            (TOKENS, [limits.max_tokens_per_minute for limits in asked]),
        ):
            if known := [rate for rate in rates if rate is not None]:
                found[name] = min(known)
        return found

    def most_permits(self, scope: str) -> float:
        """Return how many permits this process can use: as many as it may open files."""
        return self._books[scope].totals[PERMITS]

    def _totals(self, scope: str) -> dict[str, float]:
        """Share the limits out so that the sum over all members is the cap."""
        index, count = self._share
        limits = self.limits(scope)
        cap = int(limits.pop(PERMITS))
        if cap < count:
            warnings.warn(
                f"max_concurrent_requests={cap} is less than the {count} workers: each keeps one request in flight. "
                "Use fewer workers to hold the limit.",
                stacklevel=2,
            )
        permits = max(1, cap // count + (index < cap % count))
        others = sum(int(self._books[name].totals.get(PERMITS, 0)) for name in self._in_use - {scope})
        return {PERMITS: permits_within_file_limit(permits, others)} | {
            name: rate / count for name, rate in limits.items()
        }
