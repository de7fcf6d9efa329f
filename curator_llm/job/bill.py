"""What a job paid for since its last bill, taken from its journal: each reply once, whoever waited for it.

Rows do not tell: equal rows share a reply, and a stopped run paid for rows that are in no output. Each stage tags its
records with its own run name, and so does each of its retries, whose price may be another one: the journal tells who
paid. What an execution that was killed had paid for stands on the next bill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from curator_llm.frame.stages import Stage
from curator_llm.job.retries import RetriedStage, draw_name
from curator_llm.journal.contents import Sum
from curator_llm.journal.segment import Scan, is_rewritten, segments_of
from curator_llm.operations.base import ChatRequests
from curator_llm.wire.exchange import Record


@dataclass
class Bill(Sum):
    """What a stage asked for, in requests that ended with a reply or a failure.

    Attributes
    ----------
    cost_usd : float or None
        None where any of them has no price.
    """

    cost_usd: float | None = None

    def charge(self, record: Record, price_usd: tuple[float, float] | None) -> None:
        """Add a record and what it cost."""
        self.add(record)
        if price_usd is None:
            self.cost_usd = None
        elif self.cost_usd is not None:
            cost = (record.input_tokens or 0) * price_usd[0] + (record.output_tokens or 0) * price_usd[1]
            self.cost_usd += cost / 1e6


def run_name(run: str, output: str) -> str:
    """Return the name under which a stage's records stand in the journal."""
    return f"{run}/{output}"


def read_bills(
    journal: Path, since: Mapping[str, int], run: str, stages: Sequence[Stage]
) -> tuple[list[Bill], dict[str, int]]:
    """Return the bill of each stage, and how far each segment was read.

    Parameters
    ----------
    journal : Path
    since : mapping of str to int
        How far the last bill read them, empty before the first one.
    run : str
    stages : sequence of Stage

    Notes
    -----
    Cost: reads what was written since the last bill, about 300,000 records a second.
    """
    bills: list[Bill] = []
    payers: dict[str, tuple[Bill, tuple[float, float] | None]] = {}
    for stage in stages:
        drawn = stage.stages if isinstance(stage, RetriedStage) else [stage]
        prices = [cast("ChatRequests", one.spec.operation).price_usd for one in drawn]
        bills.append(Bill(cost_usd=None if prices[0] is None else 0.0))
        for draw, price in enumerate(prices):
            payers[draw_name(run_name(run, stage.spec.output), draw)] = (bills[-1], price)
    marks: dict[str, int] = {}
    for path in segments_of(journal):
        if is_rewritten(path.name) and path.name not in since:  # its records were billed where they stood before
            marks[path.name] = path.stat().st_size
            continue
        scan = Scan(path, since.get(path.name, 0))
        for _, _, record in scan:
            if record.run in payers:
                bill, price = payers[record.run]
                bill.charge(record, price)
        marks[path.name] = scan.position
    return bills, marks
