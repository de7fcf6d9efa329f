"""A stage on a pandas frame, at once: a line before, a bar, a line after, and an end that says what is kept."""

from __future__ import annotations

import sys
import time
from typing import cast

import pandas as pd

from curator_llm.engine.batch import Batch
from curator_llm.engine.engine import Engine
from curator_llm.frame.bar import rows_bar
from curator_llm.frame.counts import Counts
from curator_llm.frame.lines import dollars, held_back_by, plan_line, short, summary_line, total_cost
from curator_llm.frame.run_rows import Plan, Result, StageSpec, run_rows
from curator_llm.operations.base import ChatRequests

#: How often the bar moves.
_LOOK_S = 0.2


def run_at_once(frame: pd.DataFrame, spec: StageSpec, engine: Engine) -> pd.DataFrame:
    """Answer every row of a frame, and tell people how it goes.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C: nothing more is sent, what is in flight ends and is kept, and a line says how to go on.
    """
    run = _Run(spec, engine)
    try:
        return run_rows(frame, spec, engine, wait=run.wait, watch=run).frame
    except BaseException as error:
        run.broken_off(error)
        raise


class _Run:
    """What is said about one run."""

    def __init__(self, spec: StageSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine
        self._before = engine.snapshot()
        self._started = time.monotonic()
        self._plan: Plan | None = None
        self._batch: Batch | None = None

    def planned(self, plan: Plan) -> None:
        """Say what will be asked."""
        self._plan = plan
        say(plan_line_of(plan, self._spec, self._spec.output))

    def wait(self, batch: Batch) -> None:
        """Wait for the end of the batch, with a bar."""
        self._batch = batch
        total = len(self._plan.todo) if self._plan else 0
        with rows_bar(self._spec.output, total) as show:
            while not batch.wait(_LOOK_S):
                batch.check_engine()
                show(batch.done, self._note())
            show(batch.done, self._note())

    def ended(self, result: Result) -> None:
        """Say how it ended."""
        counts = Counts.of(result.frame, self._spec.output)
        say(
            summary_line(
                self._spec.output,
                counts.statuses,
                seconds=result.seconds,
                failures=counts.failures,
                cost_usd=cost_of(self._spec, result),
                held_back_by=held_back_by(self._changes()),
            )
        )

    def broken_off(self, error: BaseException) -> None:
        """Say what is kept and how to go on, if anything was sent."""
        batch, plan = self._batch, self._plan
        if batch is None or plan is None or batch.is_complete:
            return
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        said = f"{batch.done:,} of {len(plan.todo):,} rows answered"
        say(f"{self._spec.output}: {how}: {said}; nothing more is sent, {what_is_kept(self._spec)}")

    def _changes(self) -> dict[str, float]:
        return {name: count - self._before.get(name, 0) for name, count in self._engine.snapshot().items()}

    def _note(self) -> str:
        price = cast("ChatRequests", self._spec.operation).price_usd
        if price is None:
            return ""
        changes = self._changes()
        return dollars((changes.get("input_tokens", 0) * price[0] + changes.get("output_tokens", 0) * price[1]) / 1e6)


def plan_line_of(plan: Plan, spec: StageSpec, name: str) -> str:
    """Return the line before, for a plan under a name."""
    operation = cast("ChatRequests", spec.operation)
    to_send = plan.to_send
    return plan_line(
        name,
        rows=plan.rows,
        requests=len(to_send),
        reused=plan.reused,
        journal=plan.journal,
        max_cost_usd=operation.max_cost_usd(to_send.values()),
        is_bounded=operation.output_limit is not None,
        ceiling=None if spec.budget is None else str(spec.budget),
    )


def cost_of(spec: StageSpec, result: Result) -> float | None:
    """Return what a result's rows paid; None without a price."""
    operation = cast("ChatRequests", spec.operation)
    return total_cost(operation.cost_usd(record) for record in result.paid)


def what_is_kept(spec: StageSpec) -> str:
    """Return what becomes of replies after a break, and how to go on."""
    journal = spec.journal_directory()
    if journal is None:
        return "and replies that came are not kept (journal=False)."
    return f"replies are kept in {short(journal)}, those in flight, too. Run it again to ask only for the rest."


def say(line: str) -> None:
    """Print a line for people: standard error, so that output can be piped."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  the lines every run prints
