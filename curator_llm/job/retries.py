"""Retries: rows of a stage that ended in some way, asked anew by the stage with other arguments.

A run directory remembers its retries, and every later run gives the merged answers: a stage with retries is one step.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from curator_llm.errors import ConfigurationError, CuratorLLMError
from curator_llm.frame.run_rows import Plan
from curator_llm.frame.stages import Stage
from curator_llm.operations.base import ChatRequests
from curator_llm.spec.nearest import nearest

#: How a row may have ended to be asked anew; the others are decided anew by every run.
RETRIED = ("ok", "truncated", "filtered", "refused", "empty", "invalid", "rejected", "failed")
#: A retry that ends so never counts: nothing was asked.
_NOT_ASKED = ("skipped", "not_attempted")
#: A retry that ends so has no answer: one that is there stays.
_NO_ANSWER = (*_NOT_ASKED, "failed", "rejected")


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
    draw : int, default 0
        From 1 on, per stage: requests of another draw are other requests. 0 where it is not known yet.
    done : bool, default False
        Whether a run has come to its end since.

    Examples
    --------
    >>> Retry("topic", ("truncated",), (), 1).as_json()
    {'stage': 'topic', 'statuses': ['truncated'], 'set': [], 'draw': 1, 'done': False}
    """

    stage: str
    statuses: tuple[str, ...]
    settings: tuple[str, ...]
    draw: int = 0
    done: bool = False

    def __str__(self) -> str:
        settings = "".join(f" with {setting}" for setting in self.settings)
        return f"{' and '.join(self.statuses)} asked anew{settings}"

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the manifest."""
        return {
            "stage": self.stage,
            "statuses": list(self.statuses),
            "set": list(self.settings),
            "draw": self.draw,
            "done": self.done,
        }

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Retry:
        """Read what stands in the manifest."""
        return cls(said["stage"], tuple(said["statuses"]), tuple(said["set"]), said["draw"], bool(said.get("done")))


def with_retry(retries: Sequence[Retry], new: Retry) -> tuple[Retry, ...]:
    """Return the retries with another one, in the place of those of its stage that are not done.

    Examples
    --------
    >>> first = with_retry((), Retry("topic", ("truncated",), ("endpoint=typo",)))
    >>> with_retry(first, Retry("topic", ("truncated",), ("endpoint=other",)))
    (Retry(stage='topic', statuses=('truncated',), settings=('endpoint=other',), draw=1, done=False),)
    """
    kept = [retry for retry in retries if retry.done or retry.stage != new.stage]
    draw = 1 + sum(retry.stage == new.stage for retry in kept)
    return (*kept, dataclasses.replace(new, draw=draw))


@contextlib.contextmanager
def named(stage: str, draw: int) -> Iterator[None]:
    """Let errors say that they are those of a retry, and how to take it back; draw 0 is the stage itself."""
    try:
        yield
    except CuratorLLMError as error:
        if not draw:
            raise
        msg = (
            f"{error.message} This is retry {draw} of {stage}: until it is done another retry takes its place, and "
            "once it has begun `curator-llm retry RUN_DIR --drop` takes it back."
        )
        raise type(error)(msg) from None


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
    their order. A row that failed and has a reply in a draw that retries failed rows takes it and is not asked again.
    Where a retry brings no answer, the one before stays.

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
        for draw, (_, stage) in enumerate(self.retries, 1):
            with named(self.spec.output, draw):
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

    def with_run(self, *, run: str | None, journal: str | bool, budget: str | None = None) -> Stage:
        """Return this stage as part of a run; each draw has a name of its own in the journal."""
        retries = [
            (statuses, stage.with_run(run=run and draw_name(run, draw), journal=journal, budget=budget))
            for draw, (statuses, stage) in enumerate(self.retries, 1)
        ]
        return RetriedStage(self.base.with_run(run=run, journal=journal, budget=budget), retries)

    def _answers(self, frame: pd.DataFrame, ask: Callable[[Stage, Any], pd.DataFrame]) -> pd.DataFrame:
        answers = self.base.replay(frame)
        status = f"{self.spec.output}__status"
        draws = np.zeros(len(frame), dtype=int)  # whose answer each row has

        def open_rows() -> Any:
            return np.flatnonzero(answers[status].eq("not_attempted").to_numpy(dtype=bool))

        for draw in self._draws_of_failed():
            rows = open_rows()
            if len(rows):
                found = self.stages[draw].replay(frame.iloc[rows])
                has_reply = ~found[status].isin(_NOT_ASKED).to_numpy(dtype=bool)
                rows, found = rows[has_reply], found[has_reply]
                answers = self._merged(answers, rows, found)
                draws[rows] = draw
        rows = open_rows()
        if len(rows):
            answers = self._merged(answers, rows, ask(self.base, rows))
        for draw, (statuses, stage) in enumerate(self.retries, 1):
            rows = np.flatnonzero(answers[status].isin(statuses).to_numpy(dtype=bool) & (draws < draw))
            if len(rows):
                with named(self.spec.output, draw):
                    found = ask(stage, rows)
                counts = ~found[status].isin(_NO_ANSWER).to_numpy(dtype=bool)
                was_open = answers[status].iloc[rows].isin(_NO_ANSWER).to_numpy(dtype=bool)
                counts |= was_open & ~found[status].isin(_NOT_ASKED).to_numpy(dtype=bool)
                rows, found = rows[counts], found[counts]
                answers = self._merged(answers, rows, found)
                draws[rows] = draw
        return answers

    def _draws_of_failed(self) -> list[int]:
        """Return the draws whose reply a row has only if it failed before.

        The journal finds no failures, only replies. A draw that reads less than the stage may have the reply of another
        row, so rows without a reply ask the stage first.
        """
        read = set(self.base.spec.operation.inputs)
        return [
            draw
            for draw, (statuses, stage) in enumerate(self.retries, 1)
            if "failed" in statuses and read <= set(stage.spec.operation.inputs)
        ]

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
