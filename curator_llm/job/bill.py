"""What an execution of a job paid for, taken from its journal: each reply once, whoever waited for it.

Rows do not tell: equal rows share a reply, and a stopped run paid for rows that are in no output. Each stage tags its
records with its own run name, and so does each of its retries, whose price may be another one: the journal tells who
paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from curator_llm.frame.stages import Stage
from curator_llm.job.retries import RetriedStage, draw_name
from curator_llm.journal.segment import Scan
from curator_llm.operations.base import ChatRequests
from curator_llm.wire.exchange import Record


@dataclass
class Bill:
    """What a stage asked for.

    Attributes
    ----------
    requests : int
        Requests that ended with a reply or a failure, in this execution.
    attempts : int
        How often they were sent.
    input_tokens, output_tokens : int
        As the server counted them.
    cost_usd : float or None
        None without a price.
    """

    requests: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    def add(self, record: Record, price_usd: tuple[float, float] | None) -> None:
        """Add a record."""
        self.requests += 1
        self.attempts += record.attempts
        self.input_tokens += record.input_tokens or 0
        self.output_tokens += record.output_tokens or 0
        if price_usd is not None:
            cost = (record.input_tokens or 0) * price_usd[0] + (record.output_tokens or 0) * price_usd[1]
            self.cost_usd = (self.cost_usd or 0.0) + cost / 1e6


def run_name(run: str, output: str) -> str:
    """Return the name under which a stage's records stand in the journal."""
    return f"{run}/{output}"


def marks(journal: Path) -> dict[str, int]:
    """Return how far each segment reaches now: what stands behind is paid for later."""
    return {path.name: path.stat().st_size for path in _segments(journal)}


def read_bills(journal: Path, since: Mapping[str, int], run: str, stages: Sequence[Stage]) -> list[Bill]:
    """Return the bill of each stage.

    Parameters
    ----------
    journal : Path
    since : mapping of str to int
        The `marks` at the start.
    run : str
    stages : sequence of Stage

    Notes
    -----
    Cost: reads what this execution wrote, about 300,000 records a second.
    """
    bills = [Bill() for _ in stages]
    payers = {
        draw_name(run_name(run, stage.spec.output), draw): (bill, cast("ChatRequests", drawn.spec.operation).price_usd)
        for stage, bill in zip(stages, bills, strict=True)
        for draw, drawn in enumerate(stage.stages if isinstance(stage, RetriedStage) else [stage])
    }
    for bill, price in payers.values():
        if price is not None:
            bill.cost_usd = 0.0
    for path in _segments(journal):
        for _, _, record in Scan(path, since.get(path.name, 0)):
            if record.run in payers:
                bill, price = payers[record.run]
                bill.add(record, price)
    return bills


def _segments(journal: Path) -> list[Path]:
    return sorted((journal / "seg").glob("*.jsonl"))
