"""What one line may start now: its share of the scope's limits, and the pause a server asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from curator_llm.limits.pace import Pace
from curator_llm.limits.resources import Permits, Rate, Resource
from curator_llm.limits.window import Window

#: Resource names, as reports and grants carry them.
PERMITS, REQUESTS, TOKENS = "permits", "requests_per_minute", "tokens_per_minute"

Cost = Mapping[str, float]


class Allowance:
    """The gate's arithmetic. Not thread-safe: it lives on the engine's loop.

    Parameters
    ----------
    amounts : mapping of str to float
        Size of each resource; `PERMITS` always, rates where there is a quota.
    now : float
        Seconds of a monotonic clock.

    Examples
    --------
    >>> allowance = Allowance({PERMITS: 1}, now=0.0)
    >>> allowance.take({PERMITS: 1}, now=0.0), allowance.take({PERMITS: 1}, now=0.0)
    (0.0, inf)
    """

    def __init__(self, amounts: Mapping[str, float], now: float) -> None:
        self.permits = Permits(amounts[PERMITS])
        self._resources: dict[str, Resource] = {PERMITS: self.permits}
        for name in amounts:
            if name != PERMITS:
                self._resources[name] = Rate(amounts[name], now)
        self._paused_until = self._asked_until = now
        #: When what was granted is not valid any more, and nothing starts.
        self.expires_at = math.inf
        #: What was taken of each resource since the last `demand`, and what there was too little of.
        self._taken: dict[str, float] = {}
        self._missed: set[str] = set()
        #: Good replies, and 429 or 503, so far.
        self.answered = self.throttles = 0
        self.window = Window()
        self.pace = Pace()
        #: What the gate last waited for.
        self.held_by = PERMITS

    def cost(self, tokens: int) -> dict[str, float]:
        """Return what a request of so many tokens takes of the resources there are."""
        amounts: dict[str, float] = {PERMITS: 1, REQUESTS: 1, TOKENS: tokens}
        return {name: amounts[name] for name in self._resources}

    def take(self, cost: Cost, now: float) -> float:
        """Take the cost and return 0, or take nothing and return the seconds to wait; inf: until something returns."""
        wait_s, held_by = max(0.0, self._paused_until - now, self.pace.wait_s(now)), self._held_by_window
        if self.permits.in_flight + 1 > self.window.size:
            wait_s = math.inf
        if now >= self.expires_at:
            wait_s, held_by = math.inf, "the coordinator's silence"
        for name, amount in cost.items():
            needed_s = self._resources[name].wait_s(amount, now)
            if needed_s:
                self._missed.add(name)
            if needed_s > wait_s:
                wait_s, held_by = needed_s, name
        self.held_by = held_by
        if wait_s == 0:
            for name, amount in cost.items():
                self._resources[name].take(amount)
                self._taken[name] = self._taken.get(name, 0.0) + amount
            self.pace.started(now)
        return wait_s

    @property
    def filled_by(self) -> str | None:
        """What the next request will have to wait for until another one ends; None while there is room."""
        if self.permits.free <= 0:
            return PERMITS
        return self._held_by_window if self.permits.in_flight + 1 > self.window.size else None

    @property
    def _held_by_window(self) -> str:
        return "throttling" if self.window.resting_since is None else "outage"

    def settle(self, cost: Cost, tokens_used: int | None) -> None:
        """Give the permit back and correct the estimate of tokens by what the server reported."""
        for name, amount in cost.items():
            if name not in self._resources:
                continue
            used = tokens_used if name == TOKENS and tokens_used is not None else amount
            self._resources[name].settle(amount, used)

    def throttled(self, sent_at: float, now: float, until: float | None, spread: float) -> None:
        """Take a 429 or 503 to a request sent at `sent_at` into account.

        Nothing starts before `until`, if the server asked for that; else for a while once nothing passes. `spread`,
        from 0 to 1, makes that up to a quarter longer.
        """
        self.throttles += 1
        rest_s = self.window.throttled(self.permits.in_flight + 1, sent_at, now, cap=self.permits.cap)
        if until is not None:
            self.pause(until)
            self._asked_until = max(self._asked_until, until)
            self.pace.asked(until - now, sent_at, now)
        elif rest_s:
            self.pause(now + rest_s * (1 + 0.25 * spread))

    def failed(self, sent_at: float, now: float, spread: float) -> None:
        """Take a failure into account that says nothing about its row; in an outage nothing starts for a while.

        `spread`, from 0 to 1, makes that up to a quarter longer: workers do not try in step.
        """
        rest_s = self.window.failed(self.permits.in_flight + 1, sent_at, now, cap=self.permits.cap)
        if rest_s:
            self.pause(now + rest_s * (1 + 0.25 * spread))

    def succeeded(self, sent_at: float) -> None:
        """Take an answer to a request sent at `sent_at` into account."""
        self.answered += 1
        self.window.succeeded(self.permits.cap)
        self.pace.answered(sent_at)

    def pause(self, until: float) -> None:
        """Start nothing before `until`."""
        self._paused_until = max(self._paused_until, until)

    def pause_asked_s(self, now: float) -> float:
        """Return how much longer a server asked that nothing starts."""
        return max(0.0, self._asked_until - now)

    @property
    def held(self) -> dict[str, float]:
        """How much of each resource this line may use, or has in flight if that is more."""
        held = {name: resource.size for name, resource in self._resources.items()}
        return held | {PERMITS: max(self.permits.cap, self.permits.in_flight)}

    def demand(self) -> tuple[dict[str, float], set[str]]:
        """Return what was taken of each resource since the last time, and what there was too little of."""
        taken, missed = self._taken, self._missed
        self._taken, self._missed = {}, set()
        return taken, missed

    def give_back(self, names: Collection[str], want: Mapping[str, float], now: float) -> None:
        """Keep no more of these resources than is wanted."""
        for name in names:
            resource = self._resources.get(name)
            if resource is not None and want[name] < resource.size:
                resource.resize(want[name], now)

    def grant(self, amounts: Mapping[str, float], now: float) -> None:
        """Take a new share; a resource that is new starts as a rate, one that is not named any more is no limit."""
        self._resources = {name: resource for name, resource in self._resources.items() if name in amounts}
        for name, amount in amounts.items():
            if name in self._resources:
                self._resources[name].resize(amount, now)
            else:
                self._resources[name] = Rate(amount, now)
