"""The report of a run: how it ended, in numbers; for report.json and for the lines at the end."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from curator_llm import __version__
from curator_llm.engine.spending import read_book
from curator_llm.frame.counts import Counts
from curator_llm.frame.lines import summary_line
from curator_llm.frame.stages import Stage
from curator_llm.job.bill import Bill
from curator_llm.job.check import CheckedJob
from curator_llm.job.pipeline import PieceReport
from curator_llm.job.retries import Retry
from curator_llm.job.run_directory import RunDirectory
from curator_llm.spec.budget import Budget

_PACKAGES = ("dask", "distributed", "pandas", "pyarrow", "pyreqwest")


@dataclass(frozen=True)
class Ending:
    """How an execution ended.

    Parameters
    ----------
    status : str
        One word, as in report.json.
    exit_code : int
    message : str, optional
        Why, unless all is well.
    """

    status: str
    exit_code: int
    message: str | None = None

    @property
    def has_output(self) -> bool:
        """Whether the output is in its place: all rows are there, though a budget may have left some unasked."""
        return self.exit_code in {0, 5}


class Tally:
    """Adds up what pieces report.

    Parameters
    ----------
    stages : list of Stage
    """

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages
        self.rows_in = self.rows_out = 0
        self.counts = [Counts() for _ in stages]
        self.bills = [Bill() for _ in stages]
        self.started_at = datetime.now(UTC)
        #: How long rows were answered, without the start and end of the cluster.
        self.answering_s = 0.0
        #: What limited the speed, as far as is known.
        self.held_back_by: str | None = None

    def add(self, report: PieceReport) -> None:
        """Add a piece."""
        self.rows_in += report.rows_in
        self.rows_out += report.rows_out
        for total, counts in zip(self.counts, report.counts, strict=True):
            total.add(counts)

    @property
    def not_attempted(self) -> int:
        """How many rows of all stages the budget left."""
        return sum(counts.statuses["not_attempted"] for counts in self.counts)

    def lines(self) -> list[str]:
        """Return the summary line of each stage."""
        return [
            summary_line(
                stage.spec.output,
                counts.statuses,
                seconds=self.answering_s,
                failures=dict(counts.failures.most_common()),
                cost_usd=bill.cost_usd,
                held_back_by=self.held_back_by,
            )
            for stage, counts, bill in zip(self.stages, self.counts, self.bills, strict=True)
        ]


def make_report(
    checked: CheckedJob,
    directory: RunDirectory,
    tally: Tally,
    ending: Ending,
    *,
    run: str,
    lease: int,
    retries: Sequence[Retry],
    seconds: float,
) -> dict[str, Any]:
    """Return what report.json says. Holds no secret: keys are references, and the text of unknown errors stays out."""
    job, output = checked.job, checked.job.output
    return {
        "version": 1,
        "status": ending.status,
        "exit_code": ending.exit_code,
        "message": ending.message,
        "run": run,
        "lease": lease,
        "job_file": job.file,
        "job": job.text,
        "overrides": list(job.overrides),
        "limit": job.limit,
        "retries": [retry.as_json() for retry in retries],
        "started_at": tally.started_at.isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "answering_seconds": round(tally.answering_s, 3),
        "held_back_by": tally.held_back_by,
        "rows_in": tally.rows_in,
        "rows_out": tally.rows_out,
        "stages": [
            _stage(stage, counts, bill)
            for stage, counts, bill in zip(tally.stages, tally.counts, tally.bills, strict=True)
        ],
        "output": {output.format: str(output.path)} if ending.has_output else None,
        "budget": _budget(checked.job.budget, directory, run),
        "journal": str(directory.journal),
        "versions": {
            "curator_llm": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _budget(budget: Budget | None, directory: RunDirectory, run: str) -> dict[str, Any] | None:
    """Return limits and what counts as spent, over all executions of the run."""
    if budget is None:
        return None
    try:
        spent: Mapping[str, float] | None = read_book(directory.journal, run).taken
    except OSError:
        spent = None
    return {"limits": budget.limits, "spent": spent}


def _stage(stage: Stage, counts: Counts, bill: Bill) -> dict[str, Any]:
    """Rows are those of pieces that ended; requests and what follows are what this execution paid for."""
    return {
        "output": stage.spec.output,
        "model": stage.spec.endpoint.model,
        "endpoint": stage.spec.endpoint.identity.partition("\n")[0],
        "rows": counts.rows,
        "statuses": dict(counts.statuses.most_common()),
        "failures": dict(counts.failures.most_common()),
        "requests": bill.requests,
        "attempts": bill.attempts,
        "input_tokens": bill.input_tokens,
        "output_tokens": bill.output_tokens,
        "cost_usd": bill.cost_usd,
    }
