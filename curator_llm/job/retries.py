"""Retries: rows of a stage that ended in some way, asked anew by the stage with other arguments.

A run directory remembers its retries, and every later run gives the merged answers: a stage with retries is one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from curator_llm.errors import ConfigurationError
from curator_llm.frame.run_rows import Plan
from curator_llm.frame.stages import Stage
from curator_llm.operations.base import ChatRequests
from curator_llm.spec.nearest import nearest

#: How a row may have ended to be asked anew; the others are decided anew by every run.
RETRIED = ("ok", "truncated", "filtered", "refused", "empty", "invalid", "rejected", "failed")
#: A retry that ends so has no answer: the one before stays.
_NO_ANSWER = ("failed", "not_attempted")


@dataclass(frozen=True)
class Retry:
    """What a run directory keeps of a retry.

    Parameters
    ----------
    stage : str
        Its output column.
    statuses : tuple of str
        The rows that are asked anew.
    settings : tuple of str
        What is different, by paths within the stage: ``generation.max_tokens=2000``.
    draw : int
        From 1 on, per stage: requests of another draw are other requests.
    is_done : bool, default False
        Whether a run has come to its end since.

    Examples
    --------
    >>> Retry("topic", ("truncated",), (), 1).as_json()
    {'stage': 'topic', 'statuses': ['truncated'], 'set': [], 'draw': 1, 'done': False}
    """

    stage: str
    statuses: tuple[str, ...]
    settings: tuple[str, ...]
    draw: int
    is_done: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the manifest."""
        return {
            "stage": self.stage,
            "statuses": list(self.statuses),
            "set": list(self.settings),
            "draw": self.draw,
            "done": self.is_done,
        }

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Retry:
        """Read what stands in the manifest."""
        return cls(said["stage"], tuple(said["statuses"]), tuple(said["set"]), said["draw"], bool(said.get("done")))


def with_retry(
    retries: Sequence[Retry], stage: str, statuses: Sequence[str], settings: Sequence[str]
) -> tuple[Retry, ...]:
    """Return the retries with another one; the last one of the stage goes on, if it is the same and not done.

    Examples
    --------
    >>> first = with_retry((), "topic", ["truncated"], [])
    >>> with_retry(first, "topic", ["truncated"], []) == first
    True
    >>> with_retry(first, "topic", ["failed"], [])[-1].draw
    2
    """
    of_stage = [retry for retry in retries if retry.stage == stage]
    new = Retry(stage, tuple(statuses), tuple(settings), len(of_stage) + 1)
    if of_stage and not of_stage[-1].is_done:
        last = of_stage[-1]
        if (last.statuses, last.settings) == (new.statuses, new.settings):
            return tuple(retries)
    return (*retries, new)


def check_statuses(statuses: Sequence[str]) -> None:
    """Check that rows of these statuses can be asked anew.

    Raises
    ------
    ConfigurationError
        When one is no status, or of rows that every run decides anew.
    """
    for status in statuses:
        if status not in RETRIED:
            msg = f"Rows that are {status!r} cannot be retried. {nearest(status, RETRIED)}"
            raise ConfigurationError(msg)


class RetriedStage(Stage):
    """A stage and its retries, as one step.

    A row's answer is that of the stage, unless its status is one that a later draw retries: then it is that draw's, in
    their order. A row that has no final reply, but one in a later draw, takes this one and is not asked again. Where a
    retry brings no answer, the one before stays.

    Parameters
    ----------
    base : Stage
    retries : sequence of (statuses, Stage)
        In the order of their draws; each adds the columns of `base`.
    """

    def __init__(self, base: Stage, retries: Sequence[tuple[tuple[str, ...], Stage]]) -> None:
        self.base = base
        self.retries = tuple(retries)
        self.spec = base.spec
        self.__name__ = base.__name__

    @property
    def stages(self) -> list[Stage]:
        """The stage and those of its retries, by draw."""
        return [self.base, *(stage for _, stage in self.retries)]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that any draw reads."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.spec.operation.inputs))

    def meta(self, frame: Any) -> Any:
        """Return an empty frame with the columns of the step; see `Stage.meta`."""
        for _, stage in self.retries:
            stage.meta(frame)  # a retry may read other columns
        return self.base.meta(frame)

    def __call__(self, frame: Any) -> Any:
        """Add the stage's columns to a pandas frame; see `Stage.__call__`."""
        return self._answers(frame, lambda stage, rows: stage(frame.iloc[rows]))

    def replay(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a pandas frame with the answers the journal has."""
        return self._answers(frame, lambda stage, rows: stage.replay(frame.iloc[rows]))

    def dry_run(self, frame: pd.DataFrame) -> Plan:
        """Return what would be asked for a pandas frame, as far as the journal tells."""
        plan = self.base.dry_run(frame)

        def ask(stage: Stage, rows: Any) -> pd.DataFrame:
            part = stage.dry_run(frame.iloc[rows])
            plan.records.update(part.records)
            for row, request in zip(rows, part.requests, strict=True):
                plan.requests[row] = request
            return stage.replay(frame.iloc[rows])

        self._answers(frame, ask)
        return plan

    def with_run(self, *, run: str | None, journal: str | bool) -> Stage:
        """Return this stage as part of a run; each draw has a name of its own in the journal."""
        retries = [
            (statuses, stage.with_run(run=run and draw_name(run, draw), journal=journal))
            for draw, (statuses, stage) in enumerate(self.retries, 1)
        ]
        return RetriedStage(self.base.with_run(run=run, journal=journal), retries)

    def _answers(self, frame: pd.DataFrame, ask: Callable[[Stage, Any], pd.DataFrame]) -> pd.DataFrame:
        answers = self.base.replay(frame)
        status = f"{self.spec.output}__status"
        draws = np.zeros(len(frame), dtype=int)  # whose answer each row has

        def open_rows() -> Any:
            return np.flatnonzero(answers[status].eq("not_attempted").to_numpy(dtype=bool))

        for draw, (_, stage) in enumerate(self.retries, 1):
            rows = open_rows()
            if len(rows):
                found = stage.replay(frame.iloc[rows])
                has_reply = found[status].ne("not_attempted").to_numpy(dtype=bool)
                rows, found = rows[has_reply], found[has_reply]
                answers = self._merged(answers, rows, found)
                draws[rows] = draw
        rows = open_rows()
        if len(rows):
            answers = self._merged(answers, rows, ask(self.base, rows))
        for draw, (statuses, stage) in enumerate(self.retries, 1):
            rows = np.flatnonzero(answers[status].isin(statuses).to_numpy(dtype=bool) & (draws < draw))
            if len(rows):
                found = ask(stage, rows)
                is_better = ~found[status].isin(_NO_ANSWER).to_numpy(dtype=bool)
                is_better |= answers[status].iloc[rows].isin(_NO_ANSWER).to_numpy(dtype=bool)
                rows, found = rows[is_better], found[is_better]
                answers = self._merged(answers, rows, found)
                draws[rows] = draw
        return answers

    def _merged(self, answers: pd.DataFrame, rows: Any, found: pd.DataFrame) -> pd.DataFrame:
        """Return the answers with those of some rows replaced, by position."""
        merged = {}
        for name, _ in self.spec.operation.columns:
            values = cast("Any", answers[name].array.copy())
            values[rows] = found[name].array
            merged[name] = values
        return answers.assign(**merged)


def draw_name(run: str, draw: int) -> str:
    """Return the name under which a draw's records stand in the journal."""
    return f"{run}/{draw}" if draw else run


def adds_the_same(one: Stage, other: Stage) -> bool:
    """Tell whether two stages add the same columns."""
    return cast("ChatRequests", one.spec.operation).columns == cast("ChatRequests", other.spec.operation).columns
