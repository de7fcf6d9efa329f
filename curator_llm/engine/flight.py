"""A flight: a request under way, where it goes and who waits for it; and the record it ends with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from curator_llm.engine.batch import Batch
from curator_llm.engine.retry import Done, History
from curator_llm.engine.transport import Transport
from curator_llm.errors import CuratorLLMError
from curator_llm.journal.record import embed, embed_text
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
    """

    line: Owner
    endpoint: Endpoint
    operation: Operation
    transport: Transport
    journal: Path | None
    store: Callable[[Landing], None]
    kept: Callable[[bytes], Record | None]
    run: str | None


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

    @property
    def name(self) -> tuple[Path | None, bytes]:
        """What flights are known by: equal ones are one."""
        return self.source.journal, self.request.key

    @property
    def server(self) -> tuple[Transport, str]:
        """Who is asked: one scope may have several servers and models."""
        return self.source.transport, self.source.endpoint.model

    def fail(self, error: CuratorLLMError) -> None:
        """Fail every batch that waits for it."""
        for batch, _ in self.waiters:
            batch.fail(error)
        self.waiters.clear()


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
    )
