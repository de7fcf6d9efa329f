"""The progress line of a run: rewritten on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from curator_llm.cluster.progress import Progress
from curator_llm.job.pipeline import PieceReport
from curator_llm.wire.exchange import STATUSES

TERMINAL_INTERVAL_S = 1.0
PLAIN_INTERVAL_S = 30.0
#: Speed is that of so many looks.
_WINDOW = 30


def progress_line(
    counts: Mapping[str, float], *, total: int | None, rate: float, in_flight: float = 0, limit: float = 0
) -> str:
    """Return one line about a run.

    Parameters
    ----------
    counts : mapping of str to float
        Answers so far by status.
    total : int or None
        Answers there will be, as far as that is known: rows times stages.
    rate : float
        Answers a second.
    in_flight, limit : float
        Requests of all workers together.

    Examples
    --------
    >>> progress_line({"ok": 1200, "failed": 4}, total=3000, rate=60.0, in_flight=64, limit=64)
    'ok 1,200 · failed 4 · of 3,000 (40 %) · 60.0 rows/s · 64 of 64 in flight · 30 s left'
    """
    done = sum(counts.get(status, 0) for status in STATUSES)
    parts = [f"{status} {int(counts[status]):,}" for status in STATUSES if counts.get(status)] or ["no answer yet"]
    if total:
        parts.append(f"of {total:,} ({min(100, 100 * done / total):.0f} %)")
    parts.append(f"{rate:,.1f} rows/s")
    if limit:
        parts.append(f"{in_flight:,.0f} of {limit:,.0f} in flight")
    if total and rate > 0:
        parts.append(f"{_duration(max(0, total - done) / rate)} left")
    return " · ".join(parts)


class ProgressReporter:
    """Prints how a run goes, from a thread of its own, while the context is open.

    Parameters
    ----------
    progress : Progress
    total : int or None
        Answers there will be.
    stream : TextIO, default standard error
    interval_s : float, optional
        Default 1 s on a terminal, 30 s elsewhere.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        total: int | None,
        stream: TextIO | None = None,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._rewrites = self._stream.isatty()
        self._interval_s = interval_s or (TERMINAL_INTERVAL_S if self._rewrites else PLAIN_INTERVAL_S)
        self._progress = progress
        self._total = total
        self._clock = clock
        self._ended: dict[str, float] = {}
        self._speed: deque[tuple[float, float]] = deque([(clock(), 0.0)], maxlen=_WINDOW)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="curator-llm progress", daemon=True)

    def __enter__(self) -> Self:
        self._progress.look()  # what engines of a cluster that was there have done before is not this run's
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._rewrites:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def add(self, report: PieceReport) -> None:
        """Take note of a piece that ended."""
        for counts in report.counts:
            for status, count in counts.statuses.items():
                self._ended[status] = self._ended.get(status, 0) + count

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            line = self._line()
            self._stream.write(f"\r\x1b[K{line}" if self._rewrites else f"{line}\n")
            self._stream.flush()

    def _line(self) -> str:
        seen = self._progress.look()
        # Engines count replies as they come, pieces count rows as they end, reused ones too: the greater is nearer.
        counts = max(dict(self._ended), seen, key=_answers)
        now, done = self._clock(), _answers(counts)
        since, before = self._speed[0]
        self._speed.append((now, done))
        rate = max(0.0, done - before) / max(now - since, 1e-9)
        in_flight, limit = seen.get("in_flight", 0), seen.get("limit", 0)
        return progress_line(counts, total=self._total, rate=rate, in_flight=in_flight, limit=limit)


def _answers(counts: Mapping[str, float]) -> float:
    return sum(counts.get(status, 0) for status in STATUSES)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
