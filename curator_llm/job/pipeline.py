"""What happens to the rows of a job: its stages and filters in their order, and a piece of the input as one task.

The steps are applied inside the task that reads and writes the piece. So rows are counted as each stage ends, before a
later filter drops them; nothing is asked twice to count it; and memory holds only the pieces that are open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from curator_llm.errors import ConfigurationError, CuratorLLMError
from curator_llm.frame.counts import Counts
from curator_llm.frame.stages import Stage
from curator_llm.job.data.outputs import Output
from curator_llm.job.data.pieces import Piece
from curator_llm.job.file.filters import Filter
from curator_llm.job.file.job_file import Job
from curator_llm.job.file.query import Query
from curator_llm.job.retries import RetriedStage, Retry, adds_the_same, named
from curator_llm.spec.endpoint import Endpoint

Step = Stage | Filter


@dataclass(frozen=True)
class PieceReport:
    """How a piece ended.

    Parameters
    ----------
    number : int
    rows_in, rows_out : int
    counts : tuple of Counts
        Of each stage.
    """

    number: int
    rows_in: int
    rows_out: int
    counts: tuple[Counts, ...]


def build_steps(job: Job, endpoints: Mapping[str, Endpoint], retries: Sequence[Retry] = ()) -> tuple[Step, ...]:
    """Make a job's stages, each with its retries.

    Raises
    ------
    JobFileError
        When one cannot be made.
    """
    return tuple(step if isinstance(step, Filter) else _build(step, endpoints, retries) for step in job.steps)


def _build(query: Query, endpoints: Mapping[str, Endpoint], retries: Sequence[Retry]) -> Stage:
    base = query.build(endpoints[query.endpoint])
    drawn: list[tuple[tuple[str, ...], Stage]] = []
    for retry in retries:
        if retry.stage != query.output:
            continue
        with named(retry.stage, retry.draw):
            changed = query.changed(retry.settings, endpoints)
            stage = changed.build(endpoints[changed.endpoint]).with_draw(retry.draw)
            if not adds_the_same(base, stage):
                msg = f"a retry with {', '.join(retry.settings)} would add other columns: change what is asked alone."
                raise query.place.error(msg)
            drawn.append((retry.statuses, stage))
    return RetriedStage(base, drawn) if drawn else base


def check_steps(job: Job, steps: tuple[Step, ...], meta: pd.DataFrame) -> pd.DataFrame:
    """Check that each step finds its columns; return the empty frame that the last one gives.

    Raises
    ------
    JobFileError
        When a column is missing, or would be overwritten.
    """
    for said, step in zip(job.steps, steps, strict=True):
        if isinstance(step, Filter):
            step.check(meta)
            continue
        try:
            meta = step.meta(meta)
        except ConfigurationError as error:
            raise said.place.caused(error) from None
    return meta


#: Why executions stopped, as far as this process knows: their later pieces ask nothing more.
_stopped: dict[str, CuratorLLMError] = {}


def answer_piece(
    piece: Piece, number: int, *, steps: tuple[Step, ...], output: Output, execution: str
) -> PieceReport | CuratorLLMError:
    """Read a piece, apply the steps and write it: one Dask task.

    An error of ours is returned: Dask would log each one that is raised, with a traceback, on every worker.

    Parameters
    ----------
    piece : Piece
    number : int
        Of the piece.
    steps : tuple of Stage or Filter
    output : Output
    execution : str
        Unlike that of any other execution.
    """
    if execution not in _stopped:
        try:
            return _answer_piece(piece, number, steps, output)
        except CuratorLLMError as error:
            _stopped[execution] = type(error)(error.message)
    return _stopped[execution]


def _answer_piece(piece: Piece, number: int, steps: tuple[Step, ...], output: Output) -> PieceReport:
    frame = piece.read()
    rows_in = len(frame)
    counts = []
    for step in steps:
        frame = step(frame)
        if isinstance(step, Stage):
            counts.append(Counts.of(frame, step.spec.output))
    output.write(frame, number)
    return PieceReport(number, rows_in, len(frame), tuple(counts))
