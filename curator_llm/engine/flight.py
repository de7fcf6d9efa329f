"""A flight: a request under way, where it goes and who waits for it; and the record it ends with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from curator_llm.engine.batch import Batch
from curator_llm.engine.purse import Purse
from curator_llm.engine.retry import Done, History
from curator_llm.engine.transport import Transport
from curator_llm.errors import CuratorLLMError
from curator_llm.journal.record import embed, embed_text
from curator_llm.limits.budget_book import NOTHING, Amounts, plus
from curator_llm.limits.tariff import Tariff
from curator_llm.operations.base import Operation
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.exchange import Fault, Record, Reply, Request
from curator_llm.wire.verdicts import Verdict


class Owner(Protocol):
    """The line of a flight, as far as its end needs it."""

    def deliver(self, landings: list[Landing]) -> None:
        """Hand records that are kept to whoever waits."""

    def lose(self, flight: Flight, error: CuratorLLMError) -> None:
        """End a flight whose record could not be kept."""

    def stop(self, error: CuratorLLMError) -> None:
        """Fail whoever waits, and send nothing more."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a batch's requests go, and how their records are kept; equal for all its flights.

    Parameters
    ----------
    line : Owner
    endpoint : Endpoint
    operation : Operation
    transport : Transport
    journal : Path or None
        Where records are kept.
    store : callable
        Takes a flight's record; once it is kept, `Line.deliver` is called with both.
    kept : callable
        Returns the record this process has kept for a key, or None.
    run : str or None
        Who pays.
    purse : Purse or None
        What is left to pay with, where that is limited.
    tariff : Tariff or None
        What requests cost then.
    """

    line: Owner
    endpoint: Endpoint
    operation: Operation
    transport: Transport
    journal: Path | None
    store: Callable[[Landing], None]
    kept: Callable[[bytes], Record | None]
    run: str | None
    purse: Purse | None = None
    tariff: Tariff | None = None


#: Older batches go first, and within one its rows in order: a retry keeps its place.
Rank = tuple[int, int]


@dataclass(eq=False, slots=True)
class Flight:
    """A request under way, and who waits for it."""

    request: Request
    source: Source
    rank: Rank
    history: History
    waiters: list[tuple[Batch, int]] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)
    sent_at: float = 0.0
    due: float = 0.0
    key_version: int = 0
    refused_name: str | None = None
    renames: int = 0
    refreshed: bool = False
    stalls: int = 0
    spent: Amounts | None = None

    @property
    def name(self) -> tuple[Path | None, bytes]:
        """What flights are known by: equal ones are one."""
        return self.source.journal, self.request.key

    @property
    def server(self) -> tuple[Transport, str]:
        """Who is asked: one scope may have several servers and models."""
        return self.source.transport, self.source.endpoint.model

    @property
    def price(self) -> Amounts:
        """What one attempt costs a budget at the worst."""
        return NOTHING if self.source.tariff is None else self.source.tariff.worst(self.request.body)

    def pay(self, verdict: Verdict) -> None:
        """Settle what an attempt cost, where there is a budget."""
        purse, tariff = self.source.purse, self.source.tariff
        if purse is not None and tariff is not None:
            price = self.price
            spent = tariff.charged(verdict, price)
            purse.settle(price, spent)
            self.spent = plus(self.spent or NOTHING, spent)

    def fail(self, error: CuratorLLMError) -> None:
        """Fail every batch that waits for it."""
        for batch, _ in self.waiters:
            batch.fail(error)
        self.waiters.clear()


_UNPAID = Verdict("final", code="budget", text="the budget was reached before it could be asked again")

#: A flight at its end, with what the journal keeps of it.
Landing = tuple[Record, Flight]


def record_of(flight: Flight, outcome: Reply | Fault, verdict: Verdict, step: Done) -> Record:
    """Return what the journal keeps of a flight."""
    history, source = flight.history, flight.source
    reply = outcome if isinstance(outcome, Reply) else None
    said = embed(reply.body) if reply else embed_text(verdict.text or "")
    return Record(
        key=flight.request.key.hex(),
        op=source.operation.id,
        status=step.status,
        final=step.final,
        attempts=history.attempts,
        at=time.time(),
        reply=said,
        code=verdict.code,
        http=reply.http if reply else None,
        origin=reply.origin if reply else None,
        model=verdict.model,
        request_id=reply.headers.get("x-request-id") if reply else None,
        input_tokens=verdict.input_tokens,
        output_tokens=verdict.output_tokens,
        billed=history.billed,
        latency_s=round(outcome.elapsed_s, 6),
        run=source.run,
        budget=None if source.purse is None else source.purse.budget.name,
        spent=None if flight.spent is None else dict(flight.spent),
    )


def count(counts: Counter[str], record: Record, operation: Operation) -> None:
    """Count a record: done, its status, tokens, and dollars where there is a price."""
    counts["done"] += 1
    counts[record.status] += 1
    counts["input_tokens"] += record.input_tokens or 0
    counts["output_tokens"] += record.output_tokens or 0
    cost_usd = operation.cost_usd(record)
    if cost_usd is not None:
        counts["cost_usd"] += cost_usd  # type: ignore[assignment]  # the only one that is not whole


def unpaid_record_of(flight: Flight) -> Record:
    """Return what the journal keeps of a flight that was sent, and that the budget does not let go on."""
    unsent = Fault("local", sent=False, message="")
    return record_of(flight, unsent, _UNPAID, Done("failed", final=False))
