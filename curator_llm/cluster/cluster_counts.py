"""What all engines together have done, and do now, from what each one reports. Pure; the clock is passed in.

Reports are cumulative, so lost and repeated ones do not skew. What was done stays counted when its engine is gone; what
is in flight counts only for those that report.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Of these a report says how much there is, of all else how much there was since its engine started.
_LEVELS = frozenset({"in_flight", "limit", "backlog"})
#: Speeds are those of so long; one look into the past a second.
RECENT_S, _STEP_S = 30.0, 1.0
#: So many engines are remembered, those that are gone included: one of them may report once more.
_MOST_KNOWN = 1000
#: An engine that was not heard for so long, or for so many reports, has nothing in flight.
SILENT_S, _SILENT_REPORTS = 10.0, 10

#: Counts by scope.
ByScope = Mapping[str, Mapping[str, float]]


@dataclass
class _Engine:
    seq: int
    counts: dict[str, dict[str, float]]
    heard_at: float


class ClusterCounts:
    """The counts of many engines.

    Examples
    --------
    >>> counts = ClusterCounts()
    >>> counts.take("e1", 1, {"a": {"done": 5, "in_flight": 2}}, now=0.0)
    >>> counts.gone("e1")
    >>> counts.status(now=1.0)["scopes"]
    {'a': {'counts': {'done': 5, 'rows answered': 0}, 'levels': {}, 'recent': {}, 'engines': 0}}
    """

    def __init__(self) -> None:
        self._totals: dict[str, Counter[str]] = {}
        self._engines: dict[str, _Engine] = {}  # who was heard last stands last
        self._trail: deque[tuple[float, dict[str, Counter[str]]]] = deque(maxlen=int(RECENT_S / _STEP_S) + 1)
        self._taken_at = -math.inf

    def take(self, engine: str, seq: int, counts: ByScope, now: float) -> None:
        """Take an engine's report; one that is older than another is dropped.

        Parameters
        ----------
        engine : str
            Its incarnation.
        seq : int
            Grows with each report.
        counts : mapping of str to mapping of str to float
            By scope: cumulative counts, and levels.
        now : float
            Seconds of a monotonic clock.
        """
        known = self._engines.pop(engine, None)
        if known is not None and seq < known.seq:
            self._engines[engine] = known
            return
        self._taken_at = now
        counts = {scope: _with_answered(values) for scope, values in counts.items()}
        for scope, values in counts.items():
            before = known.counts.get(scope, {}) if known else {}
            self._add(scope, _rises(values, before), is_past=known is None)
        self._engines[engine] = _Engine(seq, counts, now)  # type: ignore[arg-type]  # made above
        if not self._trail or now - self._trail[-1][0] >= _STEP_S:
            self._trail.append((now, {scope: total.copy() for scope, total in self._totals.items()}))
        self._forget()

    @property
    def engines(self) -> set[str]:
        """The engines that are remembered."""
        return set(self._engines)

    def gone(self, engine: str) -> None:
        """Take note that an engine is not expected to report again; it may all the same."""
        known = self._engines.get(engine)
        if known is not None:
            known.heard_at = -math.inf

    def status(self, now: float, *, interval_s: float = 1.0) -> dict[str, Any]:
        """Return what was done, by scope, what is now, and what was done of late.

        Parameters
        ----------
        now : float
        interval_s : float
            How often engines report.

        Returns
        -------
        dict
            ``engines``: how many report; ``age_s``: how old the oldest of their reports is; ``recent_s``: of how many
            seconds ``recent`` is; ``scopes``: by name ``counts``, ``levels``, ``recent``, ``engines``.
        """
        heard_since = now - max(SILENT_S, _SILENT_REPORTS * interval_s)
        present = [engine for engine in self._engines.values() if engine.heard_at >= heard_since]
        since, past = next(((at, past) for at, past in self._trail if now - at <= RECENT_S), (now, self._totals))
        scopes = {}
        for scope, total in self._totals.items():
            here = [engine.counts[scope] for engine in present if scope in engine.counts]
            levels: Counter[str] = Counter()
            for values in here:
                levels.update({name: value for name, value in values.items() if _is_level(name)})
            scopes[scope] = {
                "counts": dict(total),
                "levels": dict(levels),
                "recent": _rises(total, past.get(scope, {})),
                "engines": len(here),
            }
        age_s = max((now - engine.heard_at for engine in present), default=0.0)
        recent_s = max(0.0, self._taken_at - since)
        return {"engines": len(present), "age_s": age_s, "recent_s": recent_s, "scopes": scopes}

    def _add(self, scope: str, rises: Mapping[str, float], *, is_past: bool) -> None:
        """Add to the totals; what an engine did before its first report says nothing about its speed."""
        totals = [self._totals.setdefault(scope, Counter())]
        if is_past:
            totals += [past.setdefault(scope, Counter()) for _, past in self._trail]
        for total in totals:
            total.update(rises)  # dollars are not whole

    def _forget(self) -> None:
        if len(self._engines) > _MOST_KNOWN:
            first, engine = next(iter(self._engines.items()))
            if engine.heard_at < self._taken_at - RECENT_S:
                del self._engines[first]


def _is_level(name: str) -> bool:
    return name in _LEVELS or name.startswith("open ")


def _with_answered(values: Mapping[str, float]) -> dict[str, float]:
    """Add how many rows were answered, in ended partitions and open ones: it grows row by row."""
    answered = sum(value for name, value in values.items() if name.startswith(("rows ", "open rows ")))
    return {**values, "rows answered": answered}


def _rises(values: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return by how much counts grew; none ever falls, but the rows of a partition that is taken elsewhere."""
    rises = {name: value - before.get(name, 0) for name, value in values.items() if not _is_level(name)}
    return {name: max(0, rise) for name, rise in rises.items() if rise > 0 or name not in before}
