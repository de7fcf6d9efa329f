"""The progress of a run: what engines say, and what pieces that ended say of their rows."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from typing import Protocol, Self, TextIO

from curator_llm.cluster.live import Display, Lines, Live, RewrittenLine
from curator_llm.cluster.look import Look
from curator_llm.job.pipeline import PieceReport

TERMINAL_INTERVAL_S = 1.0


class Looks(Protocol):
    """A `Progress`, as far as it is needed here."""

    def begin(self) -> None:
        """Count from now on."""

    def look(self) -> Look:
        """Return what is known now."""


class ProgressReporter:
    """Prints how a run goes, from a thread of its own, while the context is open.

    Parameters
    ----------
    progress : Looks
        Of the cluster.
    total : int or None
        Answers there will be: rows times stages.
    stream : TextIO, default standard error
    interval_s : float, optional
        Default 1 s on a terminal, 30 s elsewhere.
    """

    def __init__(
        self, progress: Looks, *, total: int | None, stream: TextIO | None = None, interval_s: float | None = None
    ) -> None:
        stream = stream or sys.stderr
        self._progress = progress
        self._total = total
        self._ended: Counter[str] = Counter()
        # Beside the lines that a run says, and a log has no use for a last line: the report says it all.
        display: Display = RewrittenLine(stream, keeps=False) if stream.isatty() else _Log(stream)
        display.interval_s = interval_s or (TERMINAL_INTERVAL_S if stream.isatty() else display.interval_s)
        self._live = Live(self._look, display)

    def __enter__(self) -> Self:
        self._progress.begin()  # what engines of a cluster that was there have done before is not this run's
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop(looks=False)

    def add(self, report: PieceReport) -> None:
        """Take note of a piece that ended."""
        for counts in report.counts:
            self._ended.update(counts.statuses)

    def _look(self) -> Look:
        look = dataclasses.replace(self._progress.look(), total=self._total)
        # Engines count rows as they are answered, pieces as they end, also where workers do not answer: the greater is
        # nearer.
        ended = dict(self._ended)
        return dataclasses.replace(look, answered=ended) if sum(ended.values()) > sum(look.statuses.values()) else look


class _Log(Lines):
    def end(self, look: Look) -> None:
        """Write nothing more."""
