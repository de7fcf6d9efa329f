"""The way of a partition's rows: requests, journal, engine, records, columns."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from curator_llm.engine.batch import Batch
from curator_llm.engine.engine import Engine
from curator_llm.errors import RowsFailedError
from curator_llm.frame.columns import attach, check_columns, table_of
from curator_llm.frame.counts import too_many
from curator_llm.journal.store import default_directory
from curator_llm.limits.tariff import Tariff
from curator_llm.operations.base import Operation
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.exchange import Record, Request, Skip

#: What a row without a reply in the journal has, where nothing is sent.
_NO_REPLY = Skip("not_attempted", "no_reply", "the journal has no reply for it")
#: Operations whose shared rows were told of: once per process, not once per partition.
_warned: set[str] = set()


@dataclass(frozen=True)
class StageSpec:
    """What a stage is, without how it is called.

    Parameters
    ----------
    endpoint : Endpoint
    operation : Operation
    output : str
    journal : str, False or None
        A directory, none, or the configured one.
    on_error : {"column", "raise"}
    fail_on_error : float, optional
        Share (below 1) or count of failed and rejected rows that fails it.
    run : str, optional
        Who pays; set by jobs.
    budget : Budget, optional
        Out of what; has a name.
    tariff : Tariff, optional
        What requests cost; given with a budget.
    """

    endpoint: Endpoint
    operation: Operation
    output: str
    journal: str | bool | None
    on_error: str
    fail_on_error: float | None
    run: str | None = None
    budget: Budget | None = None
    tariff: Tariff | None = None

    def journal_directory(self) -> Path | None:
        """Return where replies are kept on this machine, None for nowhere."""
        if self.journal is False:
            return None
        return Path(str(self.journal)).expanduser().absolute() if self.journal else default_directory()


@dataclass
class Plan:
    """What a partition needs, before anything is sent."""

    rows: int
    journal: Path | None
    requests: list[Request | Skip]
    records: dict[bytes, Record] = field(default_factory=dict)

    @property
    def todo(self) -> list[tuple[int, Request]]:
        """The requests whose replies the journal does not have, with their rows."""
        return [
            (row, request)
            for row, request in enumerate(self.requests)
            if isinstance(request, Request) and request.key not in self.records
        ]

    @property
    def to_send(self) -> dict[bytes, Request]:
        """What will be sent, by key: equal rows share a request."""
        return {request.key: request for _, request in self.todo}

    @property
    def known(self) -> list[Record | Skip]:
        """The outcomes of all other rows."""
        found = (request if isinstance(request, Skip) else self.records.get(request.key) for request in self.requests)
        return [outcome for outcome in found if outcome is not None]

    @property
    def reused(self) -> int:
        """How many rows the journal has a reply for."""
        return sum(isinstance(request, Request) and request.key in self.records for request in self.requests)


@dataclass(frozen=True)
class Result:
    """A partition with its columns, and what was asked for them.

    Parameters
    ----------
    frame : pandas.DataFrame
    paid : list of Record
        Each reply that these rows paid for; others share replies, or have them from the journal.
    reused : int
        Rows the journal had a reply for.
    seconds : float
    """

    frame: pd.DataFrame
    paid: list[Record]
    reused: int
    seconds: float


class Watch(Protocol):
    """Told how a run goes."""

    def planned(self, plan: Plan) -> None:
        """Hear what will be asked, before anything is sent."""

    def ended(self, result: Result) -> None:
        """Hear how it ended, before too many failed rows become an error."""


def plan_rows(frame: pd.DataFrame, spec: StageSpec, engine: Engine) -> Plan:
    """Make the requests and look up what the journal has."""
    operation = spec.operation
    check_columns(frame, operation.inputs, spec.output, [name for name, _ in operation.columns])
    requests = operation.requests(table_of(frame, operation.inputs), len(frame))
    plan = Plan(len(frame), spec.journal_directory(), requests)
    keys = {request.key for request in requests if isinstance(request, Request)}
    _warn_of_sharing(spec, sum(isinstance(request, Request) for request in requests) - len(keys))
    if plan.journal is not None and keys:
        plan.records = engine.journal(plan.journal).lookup(keys)
    return plan


def run_rows(
    frame: pd.DataFrame,
    spec: StageSpec,
    engine: Engine,
    *,
    wait: Callable[[Batch], object] = Batch.wait,
    watch: Watch | None = None,
) -> Result:
    """Answer every row of a frame.

    Parameters
    ----------
    frame : pandas.DataFrame, n rows
    spec : StageSpec
    engine : Engine
    wait : callable
        Waits for the end of the batch; a cluster lets the next partition start meanwhile.
    watch : Watch, optional
        Told how it goes.

    Raises
    ------
    RunError
        When no row can work; replies that came are kept.
    RowsFailedError
        When more rows failed than the stage allows; replies are kept.
    """
    started = time.monotonic()
    plan = plan_rows(frame, spec, engine)
    if watch is not None:
        watch.planned(plan)
    todo = plan.todo
    answered: dict[int, Record | Skip] = {}
    paid: list[Record] = []
    with engine.rows.partition(spec.endpoint.limits.scope, plan.rows, plan.known) as rows:
        if todo:
            batch = rows.batch = engine.submit(
                todo,
                endpoint=spec.endpoint,
                operation=spec.operation,
                journal=plan.journal,
                run=spec.run,
                budget=spec.budget,
                tariff=spec.tariff,
                began_at=started,
            )
            try:
                wait(batch)
                answered, paid = batch.outcomes(), batch.paid()
            except BaseException:
                engine.cancel(batch)
                raise
    outcomes: list[Record | Skip] = [
        request if isinstance(request, Skip) else answered.get(row) or plan.records[request.key]
        for row, request in enumerate(plan.requests)
    ]
    values = spec.operation.read(outcomes)
    answers = attach(frame, spec.operation.columns, values)
    result = Result(answers, paid, plan.reused, time.monotonic() - started)
    if watch is not None:
        watch.ended(result)
    _check_failures(spec, values)
    return result


def replay_rows(frame: pd.DataFrame, spec: StageSpec, engine: Engine) -> pd.DataFrame:
    """Return the frame with the answers the journal has; rows without one are ``not_attempted``. Sends nothing."""
    plan = plan_rows(frame, spec, engine)
    outcomes: list[Record | Skip] = [
        request if isinstance(request, Skip) else plan.records.get(request.key, _NO_REPLY) for request in plan.requests
    ]
    return attach(frame, spec.operation.columns, spec.operation.read(outcomes))


def _warn_of_sharing(spec: StageSpec, shared: int) -> None:
    """Say once that equal rows get one answer, where each could have drawn its own."""
    name = repr(spec.operation)
    if shared and not spec.operation.is_deterministic and name not in _warned:
        _warned.add(name)
        warnings.warn(
            f"{spec.output}: {shared:,} rows ask the same as another row and share its answer, though the temperature "
            "is not 0. For a sample of each, pass sample_by='a column that tells them apart'; else set the temperature "
            "to 0.",
            stacklevel=2,
        )


def _check_failures(spec: StageSpec, values: dict[str, list[Any]]) -> None:
    statuses, errors = values[f"{spec.output}__status"], values[f"{spec.output}__error"]
    bad = [error for status, error in zip(statuses, errors, strict=True) if status in {"failed", "rejected"}]
    if too_many(len(bad), len(statuses), spec.fail_on_error) or (bad and spec.on_error == "raise"):
        msg = (
            f"{len(bad)} of {len(statuses)} rows failed or were rejected, the first with: {bad[0].rstrip('.')}. The "
            "replies of the others are kept: run again to ask only for the missing ones, or pass on_error='column' to "
            "get failures as a column."
        )
        raise RowsFailedError(msg)
