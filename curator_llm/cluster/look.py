"""What a progress display shows: one look at what engines did and do, as a line, a table, and HTML."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from curator_llm.frame.lines import dollars, held_back_by
from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS
from curator_llm.spec.html import html_table
from curator_llm.wire.exchange import STATUSES

Counts = Mapping[str, float]

#: What holds a run back that has rows waiting, and so much of its permits in use.
_CAP, _FULL = "max_concurrent_requests", 0.9
#: What a narrow terminal does without, first to last.
_LEAST = ("tokens", "requests", "speed", "cost")


@dataclass(frozen=True)
class ScopeLook:
    """What was done in one quota scope, or in all.

    Attributes
    ----------
    name : str
        Which model where, and by which reference to a key.
    counts : mapping of str to float
        Cumulative: `sent`, `done`, `input_tokens`, `output_tokens`, `cost_usd` where there is a price, ``rows STATUS``.
    levels : mapping of str to float
        Now: `in_flight`, `limit`, `backlog`, ``open rows``, ``open rows STATUS``.
    recent : mapping of str to float
        By how much `counts` grew in the last `recent_s` seconds.
    limits : mapping of str to float
        What the endpoints ask for.
    window : float or None
        How many requests at once the server seems to bear; None for any number.
    """

    name: str
    counts: Counts
    levels: Counts
    recent: Counts
    recent_s: float
    limits: Counts = field(default_factory=dict)
    window: float | None = None

    @property
    def statuses(self) -> dict[str, int]:
        """Answered rows by status, those of open partitions included."""
        found = {
            name: int(self.counts.get(f"rows {name}", 0) + self.levels.get(f"open rows {name}", 0)) for name in STATUSES
        }
        return {name: count for name, count in found.items() if count > 0}

    @property
    def rows_known(self) -> int:
        """Rows of all partitions that have begun; there may be more to come."""
        return int(sum(self.counts.get(f"rows {name}", 0) for name in STATUSES) + self.levels.get("open rows", 0))

    @property
    def rows_open(self) -> int:
        """Rows of open partitions that have no answer yet."""
        answered = sum(self.levels.get(f"open rows {name}", 0) for name in STATUSES)
        return int(self.levels.get("open rows", 0) - answered)

    @property
    def rows_per_s(self) -> float:
        """Rows answered a second, of late."""
        return self._per_s("rows answered")

    @property
    def tokens_per_s(self) -> float:
        """Input and output tokens a second, of late."""
        return self._per_s("input_tokens") + self._per_s("output_tokens")

    @property
    def cost_usd(self) -> float | None:
        """What was paid, None without a price."""
        return self.counts.get("cost_usd")

    @property
    def in_flight(self) -> int:
        """Requests in flight now."""
        return int(self.levels.get("in_flight", 0))

    @property
    def limit(self) -> int:
        """How many may be in flight."""
        return int(self.limits.get(PERMITS, 0) or self.levels.get("limit", 0))

    @property
    def held_back_by(self) -> str | None:
        """What limits the speed now, with what to try; None for nothing.

        Examples
        --------
        >>> levels = {"in_flight": 8, "limit": 8, "backlog": 40, "open rows": 50}
        >>> look = ScopeLook("m", {}, levels, {"sent": 90, "held by permits": 90}, 10.0)
        >>> look.held_back_by
        'max_concurrent_requests: 8 of 8 in flight; try 16'
        """
        held_by = held_back_by(self.recent) if self.rows_open else None
        waiting = self.levels.get("backlog", 0)
        if held_by is None and waiting and self.in_flight >= max(1, _FULL * self.limit):
            held_by = _CAP
        if held_by == _CAP:
            if not waiting:
                return None  # the last rows are in flight
            return f"{_CAP}: {self.in_flight:,} of {self.limit:,} in flight; try {2 * self.limit:,}"
        for resource in (REQUESTS, TOKENS):
            if held_by == f"max_{resource}" and resource in self.limits:
                size = self.limits[resource]
                return f"{held_by}: {size:,.0f}; try {2 * size:,.0f} if the quota allows"
        if held_by == "the server's throttling" and self.window is not None and self.window < self.limit:
            return f"{held_by}: try max_concurrent_requests={max(1, int(self.window)):,}, or ask for a higher quota"
        return held_by

    def _per_s(self, name: str) -> float:
        return self.recent.get(name, 0.0) / self.recent_s if self.recent_s > 0 else 0.0

    def since(self, before: ScopeLook) -> Self:
        """Return this look without what was done at an earlier one."""
        counts = {name: value - before.counts.get(name, 0) for name, value in self.counts.items()}
        return dataclasses.replace(self, counts=counts)


@dataclass(frozen=True, repr=False)
class Look:
    """What the engines of a cluster, or of this process, did and do.

    Attributes
    ----------
    scopes : tuple of ScopeLook
    total : int or None
        How many rows there are in all, where that is known; a row that two stages ask counts twice.
    workers : int or None
        Engines that report; None without a cluster.
    age_s : float
        How old the oldest of their reports is.
    answered : mapping of str to float or None
        Rows by status, where somebody knows better than the engines.

    Examples
    --------
    >>> print(Look.of({"recent_s": 0.0, "scopes": {}}))
    no rows yet
    """

    scopes: tuple[ScopeLook, ...]
    total: int | None = None
    workers: int | None = None
    age_s: float = 0.0
    answered: Mapping[str, float] | None = None

    @classmethod
    def of(cls, status: Mapping[str, Any], *, total: int | None = None) -> Self:
        """Read what a coordinator says, or `ClusterCounts.status`."""
        scopes = tuple(
            ScopeLook(
                name=shown(scope),
                counts=said["counts"],
                levels=said["levels"],
                recent=said["recent"],
                recent_s=status["recent_s"],
                limits=said.get("limits", {}),
                window=said.get("window"),
            )
            for scope, said in status["scopes"].items()
        )
        return cls(scopes, total, status.get("engines"), status.get("age_s", 0.0))

    def since(self, before: Look) -> Self:
        """Return this look without what was done at an earlier one, and without scopes in which nothing was done."""
        earlier = {scope.name: scope for scope in before.scopes}
        scopes = [scope.since(earlier[scope.name]) if scope.name in earlier else scope for scope in self.scopes]
        return dataclasses.replace(self, scopes=tuple(s for s in scopes if s.rows_known or s.in_flight))

    @property
    def all(self) -> ScopeLook:
        """All scopes together."""
        return ScopeLook(
            name="all",
            counts=_sum(scope.counts for scope in self.scopes),
            levels=_sum(scope.levels for scope in self.scopes),
            recent=_sum(scope.recent for scope in self.scopes),
            recent_s=max((scope.recent_s for scope in self.scopes), default=0.0),
            limits={PERMITS: sum(scope.limit for scope in self.scopes)},
        )

    @property
    def held_back_by(self) -> str | None:
        """What limits the speed now, of the scope with the most rows waiting."""
        for scope in sorted(self.scopes, key=lambda scope: -scope.levels.get("backlog", 0)):
            if scope.held_back_by:
                return scope.held_back_by if len(self.scopes) == 1 else f"{scope.held_back_by} ({scope.name})"
        return None

    @property
    def statuses(self) -> Mapping[str, float]:
        """Answered rows by status."""
        return self.all.statuses if self.answered is None else self.answered

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What there is to say, name by name."""
        whole, statuses = self.all, self.statuses
        done = int(sum(statuses.values()))
        if not (whole.rows_known or done or whole.in_flight):
            return [("rows", "no rows yet")]
        by_status = " · ".join(f"{name} {int(statuses[name]):,}" for name in STATUSES if statuses.get(name))
        known = self.total or whole.rows_known
        facts = [("status", by_status or "no answer yet"), ("rows", self._rows(done, known))]
        if whole.recent_s > 0:
            facts.append(("speed", f"{whole.rows_per_s:,.1f} rows/s"))
        if whole.tokens_per_s:
            facts.append(("tokens", f"{whole.tokens_per_s:,.0f} tokens/s"))
        if whole.limit:
            facts.append(("requests", f"{whole.in_flight:,} of {whole.limit:,} in flight"))
        if whole.cost_usd is not None:
            is_part = any(scope.cost_usd is None and scope.counts.get("done") for scope in self.scopes)
            facts.append(("cost", f"{'at least ' * is_part}{dollars(whole.cost_usd)}"))
        if whole.rows_per_s > 0 and known > done:
            what = "left" if self.total else "left for these"
            facts.append(("time", f"{duration((known - done) / whole.rows_per_s)} {what}"))
        if self.held_back_by:
            facts.append(("held back by", self.held_back_by))
        return facts

    def line(self, width: int | None = None) -> str:
        """Return one line; one for a terminal of `width` columns leaves out what matters least, and is cut at last."""
        facts = dict(self.facts)
        for least in ("", *_LEAST):
            facts.pop(least, None)
            line = " · ".join(f"{name} {fact}" if name == "held back by" else fact for name, fact in facts.items())
            if width is None or len(line) <= width:
                return line
        return line[:width]

    def __str__(self) -> str:
        return self.line()

    def __repr__(self) -> str:
        return f"<Look: {self}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = list(self.facts)
        if len(self.scopes) > 1:
            rows += [(scope.name, str(Look((scope,)))) for scope in self.scopes]
        workers = "" if self.workers is None else f", {self.workers} worker{'s' * (self.workers != 1)}"
        return html_table(f"curator_llm{workers}", rows)

    def _rows(self, done: int, known: int) -> str:
        if self.total:
            again = f", {done - self.total:,} of them again" if done > self.total else ""
            done = min(done, self.total)
            return f"{done:,} of {self.total:,} rows ({100 * done // self.total} %){again}"
        return f"{done:,} of {known:,} rows known so far"


def _sum(parts: Iterable[Counts]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def shown(scope: str) -> str:
    """Return a scope as people read it.

    Examples
    --------
    >>> shown("https://api.openai.com|gpt-4.1-mini|env:OPENAI_API_KEY")
    'gpt-4.1-mini at https://api.openai.com (key env:OPENAI_API_KEY)'
    >>> shown("http://localhost:8000|m|no key"), shown("my quota")
    ('m at http://localhost:8000', 'my quota')
    """
    match scope.split("|"):
        case [origin, model, "no key"] | [origin, model]:
            return f"{model} at {origin}"
        case [origin, model, key]:
            return f"{model} at {origin} (key {key})"
    return scope


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> duration(30), duration(600), duration(7200)
    ('30 s', '10 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
