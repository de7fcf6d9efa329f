"""The two lines every run prints: what it will ask, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from curator_llm.wire.exchange import STATUSES


def plan_line(
    output: str,
    *,
    rows: int,
    requests: int,
    reused: int,
    journal: Path | None,
    max_cost_usd: float | None = None,
    is_bounded: bool = True,
    ceiling: str | None = None,
) -> str:
    """Return the line before a run.

    Parameters
    ----------
    output : str
    rows, requests, reused : int
        Rows of the frame, requests that will be sent, rows the journal has a reply for.
    journal : Path or None
        None when replies are not kept.
    max_cost_usd : float, optional
        What the requests cost if every reply is as long as it may be; None without a price.
    is_bounded : bool, default True
        Whether a reply's length has a limit; without one `max_cost_usd` is what the input costs.
    ceiling : str, optional
        The budget.

    Examples
    --------
    >>> plan_line("summary", rows=3000, requests=2500, reused=500, journal=Path("j"), max_cost_usd=61)
    'summary: 3,000 rows, 2,500 requests, 500 reused from j, max $61.00'
    """
    kept = "replies are not kept (journal=False)" if journal is None else f"{reused:,} reused from {short(journal)}"
    parts = [f"{output}: {counted(rows, 'row')}", counted(requests, "request"), kept]
    if max_cost_usd is not None and requests:
        cost = dollars(max_cost_usd)
        parts.append(f"max {cost}" if is_bounded else f"{cost} for the input, replies without limit (no max_tokens)")
    if ceiling is not None:
        parts.append(f"ceiling {ceiling}")
    return ", ".join(parts)


def summary_line(
    output: str,
    statuses: Mapping[str, int],
    *,
    seconds: float | None = None,
    failures: Mapping[str, int] | None = None,
    reused: int = 0,
    cost_usd: float | None = None,
    held_back_by: str | None = None,
) -> str:
    """Return the line after a run.

    Parameters
    ----------
    output : str
    statuses : mapping of str to int
        Rows by status.
    seconds : float, optional
        Wall time.
    failures : mapping of str to int, optional
        Failed and rejected rows by code.
    reused : int, default 0
        Rows that cost nothing: the journal had them.
    cost_usd : float, optional
    held_back_by : str, optional
        What limited the speed.

    Examples
    --------
    >>> summary_line("summary", {"ok": 299, "failed": 1}, seconds=60, failures={"timeout": 1}, cost_usd=0.5)
    'summary: ok 299 · failed 1 (timeout 1) · $0.50 · 1.0 min · 5.0 rows/s'
    """
    rows = sum(statuses.values())
    parts = [f"{status} {statuses[status]:,}" for status in STATUSES if statuses.get(status)] or ["no rows"]
    if failures:
        parts[-1] += " (" + ", ".join(f"{code} {count:,}" for code, count in failures.items()) + ")"
    if reused:
        parts.append(f"{reused:,} reused")
    if cost_usd is not None:
        parts.append(dollars(cost_usd))
    if seconds is not None:
        parts.append(f"{_rounded(seconds)} s" if seconds < 60 else f"{_rounded(seconds / 60)} min")
    if rows and seconds:
        parts.append(f"{_rounded(rows / seconds)} rows/s")
    if held_back_by:
        parts.append(f"held back by {held_back_by}")
    return f"{output}: " + " · ".join(parts)


#: What the gate calls its resources, as users know them.
_HOLDS = {
    "permits": "max_concurrent_requests",
    "requests_per_minute": "max_requests_per_minute",
    "tokens_per_minute": "max_tokens_per_minute",
    "throttling": "the server's throttling",
    "outage": "an outage of the server",
}
#: A limit that held up fewer starts than this share of all is not what a run waited for.
_HELD_SHARE = 0.3


def held_back_by(counts: Mapping[str, float]) -> str | None:
    """Return what limited the speed, from an engine's counts; None when nothing did.

    Examples
    --------
    >>> held_back_by({"sent": 100, "held by requests_per_minute": 80, "held by permits": 3})
    'max_requests_per_minute'
    """
    holds = {name: counts.get(f"held by {name}", 0) for name in _HOLDS}
    most = max(holds, key=lambda name: holds[name])
    return _HOLDS[most] if holds[most] > _HELD_SHARE * counts.get("sent", 0) else None


def total_cost(costs: Iterable[float | None]) -> float | None:
    """Return the sum, None when no cost is known."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def dollars(usd: float) -> str:
    """Return an amount of money as people write it; small ones keep two digits that say something.

    Examples
    --------
    >>> dollars(1234.5), dollars(0.0), dollars(0.0021), dollars(2e-7)
    ('$1,234.50', '$0.00', '$0.0021', 'under $0.0001')
    """
    if 0 < usd < 0.0001:
        return "under $0.0001"
    if 0 < usd < 0.095:
        return f"${usd:.2g}"
    return f"${usd:,.2f}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "row"), counted(3000, "row")
    ('1 row', '3,000 rows')
    """
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def short(path: Path) -> str:
    """Return a path with the home directory as ``~``."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"
