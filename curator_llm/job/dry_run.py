"""A dry run: what a job would ask, without asking it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curator_llm import runtime
from curator_llm.frame.lines import plan_line
from curator_llm.frame.rendering import request_text
from curator_llm.frame.run_rows import Plan
from curator_llm.frame.stages import Stage
from curator_llm.job.check import CheckedJob, depends_on
from curator_llm.job.file.filters import Filter
from curator_llm.wire.exchange import Request

#: How many requests are shown.
_SHOWN = 3


def dry_run(checked: CheckedJob, say: Callable[[str], object]) -> None:
    """Say for each stage what it would ask: rows, requests, how many the journal has, and the first requests.

    Parameters
    ----------
    checked : CheckedJob
    say : callable
        Takes lines.

    Notes
    -----
    Cost: reads the input once and encodes every request, on this machine: about 100,000 rows a second.
    """
    waiting = depends_on(checked.steps)
    counts = [
        _StageCount(stage, checked.job.run_dir / "journal")
        for stage in checked.stages
        if stage.spec.output not in waiting
    ]
    try:
        for frame in _frames(checked) if counts else ():
            _count(checked, counts, frame)
    finally:
        runtime.close()
    by_output = {count.output: count for count in counts}
    for stage in checked.stages:
        output = stage.spec.output
        if output in by_output:
            by_output[output].say(say)
        else:
            rows = f"up to {checked.source.rows:,} rows"
            say(f"{output}: {rows}, not counted: it depends on the replies of {waiting[output]!r}")


def _frames(checked: CheckedJob) -> Iterator[pd.DataFrame]:
    for piece in checked.source.pieces():
        yield piece.read()


def _count(checked: CheckedJob, counts: list[_StageCount], frame: pd.DataFrame) -> None:
    """Count a piece; filters on input columns drop their rows, those on replies cannot."""
    by_output = {count.output: count for count in counts}
    for step in checked.steps:
        if isinstance(step, Filter):
            if step.column in frame.columns:
                frame = step(frame)
        elif step.spec.output in by_output:
            by_output[step.spec.output].add(frame)


class _StageCount:
    """What a stage would ask, counted piece by piece."""

    def __init__(self, stage: Stage, journal: Path) -> None:
        self.output = stage.spec.output
        self._journal = journal
        # a journal that is not there has nothing, and is not made by a dry run
        self._stage = stage.with_run(run=None, journal=str(journal) if journal.exists() else False)
        self._rows = self._reused = 0
        self._statuses: dict[str, int] = {}
        self._keys: list[Any] = []
        self._first: list[bytes] = []

    def add(self, frame: pd.DataFrame) -> None:
        plan: Plan = self._stage.dry_run(frame)
        self._rows += plan.rows
        todo = {request.key: request for _, request in plan.todo}
        for request in plan.requests:
            if not isinstance(request, Request):
                self._statuses[request.status] = self._statuses.get(request.status, 0) + 1
            elif request.key in plan.records:
                self._reused += 1
        self._keys.append(np.frombuffer(b"".join(key[:8] for key in todo), dtype=np.uint64))
        shown = [request.body for request in plan.requests if isinstance(request, Request)]
        self._first += shown[: _SHOWN - len(self._first)]

    def say(self, say: Callable[[str], object]) -> None:
        requests = len(np.unique(np.concatenate(self._keys))) if self._keys else 0
        say(plan_line(self.output, rows=self._rows, requests=requests, reused=self._reused, journal=self._journal))
        for status, count in self._statuses.items():
            say(f"  {count:,} rows would be {status} without a request")
        for number, body in enumerate(self._first, 1):
            say(f"  request {number}:")
            say(textwrap.indent(request_text(body), "    "))
