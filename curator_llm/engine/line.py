"""A line: everything that waits for one quota scope, and the one gate that decides what starts.

Lives on the engine's loop; other threads reach it through ``call_soon_threadsafe`` only. Tasks live while there is
work: a request that ends takes the next one along, so a full line starts no tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from pathlib import Path

import msgspec

from curator_llm.engine.batch import Batch
from curator_llm.engine.flight import Flight, Landing, Rank, Source, count, record_of, unpaid_record_of
from curator_llm.engine.lag import Lag
from curator_llm.engine.purse import Purse
from curator_llm.engine.repeats import Repeats
from curator_llm.engine.retry import Again, Done, History, LineHistory, RetryPolicy, Step, Stop, is_outage, next_step
from curator_llm.engine.stops import stop_error
from curator_llm.engine.transport import Transport
from curator_llm.errors import CuratorLLMError
from curator_llm.limits.allowance import Allowance
from curator_llm.wire.exchange import Fault, Record, Reply, Request
from curator_llm.wire.renames import renamed
from curator_llm.wire.verdicts import Verdict, judge

#: So often a flight is sent again because a server knows a parameter by another name.
MAX_RENAMES = 20
#: So often a timeout is no attempt because the loop was late; each may have been paid for.
MAX_STALLS = 3
#: Of so many requests the mean is taken.
_SOME = 64

logger = logging.getLogger(__name__)


class Line:
    """The requests of one scope.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    allowance : Allowance
        What may start.
    unreachable_after_s : float
    repeated_rejections : int
        Of how many requests nine in ten may not be rejected for one reason; 0 for any.
    lag : Lag
        Of the loop.
    on_crash : callable
        Told when the line itself failed.
    rng : random.Random
        Spreads retries.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        allowance: Allowance,
        *,
        unreachable_after_s: float,
        repeated_rejections: int,
        lag: Lag,
        on_crash: Callable[[BaseException], None],
        rng: random.Random,
    ) -> None:
        self._loop = loop
        self.allowance = allowance
        self._repeated_rejections = repeated_rejections
        self._lag = lag
        self.history = self._new_history()
        self.counts: Counter[str] = Counter()
        self.longest_s = 0.0  # a request takes no longer
        self._unreachable_after_s = unreachable_after_s
        self._on_crash = on_crash
        self._rng = rng
        self._flights: dict[tuple[Path | None, bytes], Flight] = {}
        self._ready: list[tuple[Rank, Flight]] = []
        self._delayed: list[tuple[float, Rank, Flight]] = []
        self._thirsty: list[Batch] = []
        self._arrivals = itertools.count()
        self._looking = 0  # for a new key
        self._held = (-1, "")  # who arrived before this had to wait for that
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: tuple[float, CuratorLLMError] | None = None
        self._unkept: set[Flight] = set()  # paid for, and on their way to the journal
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = math.inf
        self._refused_names: dict[tuple[Transport, str], str] = {}  # the codes that say which

    @property
    def backlog(self) -> int:
        """How many requests could start but for the limits."""
        return len(self._ready)

    @property
    def mean_tokens(self) -> float:
        """About how many tokens a request that could start takes."""
        some = self._ready[:_SOME]
        return sum(flight.request.tokens for _, flight in some) / len(some) if some else 0.0

    def accept(self, batch: Batch, source: Source, requests: list[tuple[int, Request]], began_at: float) -> None:
        """Take a batch's requests; equal ones share a flight. One that began before a stop is of the same run."""
        if self._stopped is not None and began_at < self._stopped[0]:
            batch.fail(self._stopped[1])
            return
        self.longest_s = max(self.longest_s, source.endpoint.timeout)
        policy = RetryPolicy(source.endpoint.max_attempts, source.endpoint.row_deadline, self._unreachable_after_s)
        for slot, request in requests:
            name = (source.journal, request.key)
            flight = self._flights.get(name)
            if flight is None:
                record = source.kept(request.key)  # answered since the batch looked into the journal
                if record is not None:
                    batch.put(slot, record, is_paid=False)
                    continue
                rank = (batch.ordinal, next(self._arrivals))
                flight = Flight(request, source, rank, History(policy, self.history))
                self._flights[name] = flight
                heappush(self._ready, (flight.rank, flight))
            flight.waiters.append((batch, slot))
        # While more rows wait than may start none is told to send some, and ended ones would stay, with their records.
        self._thirsty = [other for other in self._thirsty if not other.ended] + [batch]
        self.pump()

    def pump(self) -> None:
        """Start what may start."""
        while (flight := self._next()) is not None:
            task = self._loop.create_task(self._fly(flight))
            self._tasks.add(task)
            task.add_done_callback(self._landed)

    def deliver(self, landings: list[Landing]) -> None:
        """Hand records that are kept to whoever waits."""
        for record, flight in landings:
            self._flights.pop(flight.name, None)
            self._unkept.discard(flight)
            for number, (batch, slot) in enumerate(flight.waiters):
                batch.put(slot, record, is_paid=not number)
            flight.waiters.clear()
        self.pump()

    def stop(self, error: CuratorLLMError) -> None:
        """Fail every waiting batch and drop what has not started; what is in flight ends and is kept.

        The line starts afresh: the next batch's first request goes alone.
        """
        for flight in self._flights.values():
            flight.fail(error)
        for flight in [*(entry[-1] for entry in self._ready), *(entry[-1] for entry in self._delayed)]:
            self._flights.pop(flight.name, None)
        self._ready.clear()
        self._delayed.clear()
        self._stopped = (time.monotonic(), error)
        self.history = self._new_history()

    def lose(self, flight: Flight, error: CuratorLLMError) -> None:
        """End a flight whose record could not be kept."""
        self._flights.pop(flight.name, None)
        self._unkept.discard(flight)
        flight.fail(error)

    def _unpaid(self, flight: Flight, purse: Purse) -> None:
        """End a flight that the budget has nothing left for."""
        if flight.history.attempts:  # what it cost has to be kept
            self._keep(unpaid_record_of(flight), flight)
            return
        self._flights.pop(flight.name, None)
        for batch, slot in flight.waiters:
            batch.put(slot, purse.reached, is_paid=False)
        flight.waiters.clear()

    def _new_history(self) -> LineHistory:
        return LineHistory(repeats=Repeats(self._repeated_rejections))

    async def drained(self) -> None:
        """Wait until nothing is in flight."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _next(self) -> Flight | None:
        """Return the next flight that may start: the only place where a start is decided."""
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            flight = heappop(self._delayed)[2]
            heappush(self._ready, (flight.rank, flight))
        head = self._head()
        started = head if head is not None and self._take(head, now) else None
        if started is None and not self._ready and self._delayed:
            self._wake_in(self._delayed[0][0] - now)
        if self._thirsty and len(self._ready) <= self.allowance.permits.cap:
            for batch in self._thirsty:
                batch.low_water.set()
            self._thirsty.clear()
        return started

    @property
    def _waits_for_an_end(self) -> bool:
        """Whether nothing starts before something in flight has ended, and is kept."""
        permits = self.allowance.permits
        if not self.history.answered and permits.in_flight:
            return True  # the first request goes alone: a wrong key or model costs one
        if self._looking or (self.history.refused_since is not None and permits.in_flight):
            return True  # it may be the key: what is in flight tells, or the next one alone
        # A kill loses what is in flight and what is not kept yet: together no more than the permits.
        return len(self._unkept) >= permits.free

    def _head(self) -> Flight | None:
        """Return the first ready flight that somebody waits for and that can be paid for, now or later."""
        while self._ready:
            flight = self._ready[0][1]
            flight.waiters = [waiter for waiter in flight.waiters if not waiter[0].cancelled]
            purse = flight.source.purse
            is_paid = purse is None or not purse.is_spent(flight.price)
            if flight.waiters and is_paid:
                return flight
            heappop(self._ready)
            if flight.waiters and purse is not None:
                self._unpaid(flight, purse)
            else:
                del self._flights[flight.name]
        return None

    def _take(self, flight: Flight, now: float) -> bool:
        """Take what the first ready flight needs; where that is not there, see to it that the gate is opened later."""
        if self._waits_for_an_end:
            return False
        purse = flight.source.purse
        price = flight.price
        if purse is not None and not purse.covers(price):
            purse.ask(price, self.pump)
            return False
        cost = self.allowance.cost(flight.request.tokens)
        wait_s = self.allowance.take(cost, now)
        if wait_s:
            self._held = (next(self._arrivals), self.allowance.held_by)
            self._wake_in(wait_s)
            return False
        heappop(self._ready)
        flight.cost = cost
        if purse is not None:
            purse.take(price)
        if flight.rank[1] < self._held[0]:
            self.counts[f"held by {self._held[1]}"] += 1
        if self._ready and (held_by := self.allowance.filled_by):
            self._held = (next(self._arrivals), held_by)
        return True

    def _wake_in(self, wait_s: float) -> None:
        if wait_s == math.inf:
            wait_s = self._delayed[0][0] - time.monotonic() if self._delayed else math.inf
        due = self._loop.time() + max(wait_s, 0.001)
        if due < self._wake_at:
            if self._wake is not None:
                self._wake.cancel()
            # The time is kept here: uvloop's handles of short delays do not know theirs.
            self._wake, self._wake_at = self._loop.call_at(due, self._woken), due

    def _woken(self) -> None:
        self._wake, self._wake_at = None, math.inf
        self.pump()

    async def _fly(self, flight: Flight | None) -> None:
        while flight is not None:
            source, history = flight.source, flight.history
            flight.sent_at = time.monotonic()
            history.line = self.history
            if history.first_sent_at is None:
                history.first_sent_at = flight.due = flight.sent_at
            history.waited_s += max(0.0, flight.sent_at - flight.due)  # for quotas and for others: not its own fault
            flight.key_version = source.transport.key_version
            self.counts["sent"] += 1
            request = self._outgoing(flight)
            outcome = await source.transport.send(request)
            now = time.monotonic()
            verdict = self._excused(flight, judge(outcome, source.operation.judge, request.body))
            used = None if verdict.input_tokens is None else verdict.input_tokens + (verdict.output_tokens or 0)
            self.allowance.settle(flight.cost, used if verdict.billed else 0)
            flight.pay(verdict)
            opened = not self.history.answered
            if not await self._mended(flight, request, verdict):
                self.history.note(verdict, now, flight.sent_at, is_first=not history.attempts)
                self._after(flight, outcome, verdict, now)
                opened &= self.history.answered
            flight = self._next()
            if opened or (self._ready and self.allowance.permits.free > 0):
                self.pump()  # there may be room for more than the one that ended

    def _excused(self, flight: Flight, verdict: Verdict) -> Verdict:
        """Count no attempt that ran into its deadline while this process stood still; it may have been billed."""
        if verdict.code == "timeout" and flight.stalls < MAX_STALLS and self._lag.was_late(flight.sent_at):
            flight.stalls += 1
            return msgspec.structs.replace(verdict, code="stalled", sent=False)
        return verdict

    def _outgoing(self, flight: Flight) -> Request:
        body = renamed(flight.request.body, flight.refused_name or self._refused_names.get(flight.server))
        if body is flight.request.body:
            return flight.request
        return msgspec.structs.replace(flight.request, body=body)

    async def _mended(self, flight: Flight, request: Request, verdict: Verdict) -> bool:
        """Mend what costs no attempt, and put it back: a renamed parameter, a key that was rotated."""
        if flight.renames < MAX_RENAMES and renamed(request.body, verdict.code) is not request.body:
            flight.renames += 1
            if flight.refused_name is None:  # else replicas know different names: one of them takes this one
                flight.refused_name = self._refused_names[flight.server] = verdict.code or ""
        elif verdict.code == "authentication" and not flight.refreshed and flight.waiters:
            flight.refreshed = True
            refresh_key = flight.source.transport.refresh_key
            self._looking += 1
            try:
                if not await asyncio.to_thread(refresh_key, flight.key_version):
                    return False
            except CuratorLLMError as error:
                self.lose(flight, error)
                self.stop(error)
                return True
            finally:
                self._looking -= 1
        else:
            return False
        heappush(self._ready, (flight.rank, flight))
        return True

    def _after(self, flight: Flight, outcome: Reply | Fault, verdict: Verdict, now: float) -> None:
        is_of_row = flight.history.is_suspect and self.allowance.window.resting_since is None
        step = next_step(flight.history, verdict, now, self._rng)
        if is_outage(verdict) and not is_of_row and not flight.source.transport.has_spare:
            step = self._in_outage(flight, verdict, now, step)
        match step:
            case Done():
                if verdict.kind == "final":
                    self.allowance.succeeded(flight.sent_at)
                self._keep(record_of(flight, outcome, verdict, step), flight)
            case Again():
                self.counts[f"retried {verdict.code}"] += 1
                flight.due = step.due
                if step.throttled:
                    self.allowance.throttled(flight.sent_at, now, step.pause_until, self._rng.random())
                    flight.rank = (flight.rank[0], next(self._arrivals))  # others have their turn: it may be the row
                elif self.allowance.window.resting_since is not None and self.history.answered:
                    # The window rests for all; that each row tries in its turn makes an outage cost none all its tries.
                    flight.due, flight.rank = now, (flight.rank[0], next(self._arrivals))
                heappush(self._delayed, (flight.due, flight.rank, flight))
            case Stop():
                limit_s = flight.history.policy.row_deadline_s if self.history.answered else self._unreachable_after_s
                error = stop_error(verdict, flight.source.endpoint, limit_s)
                self.lose(flight, error)
                if flight.history.line is self.history:  # else it was sent before a stop, and says nothing new
                    self.stop(error)

    def _in_outage(self, flight: Flight, verdict: Verdict, now: float, step: Step) -> Step:
        """Take a failure into account that may be of an outage; one that lasts as long as a row may ends the run."""
        window, limit_s = self.allowance.window, flight.history.policy.row_deadline_s
        was_well = window.resting_since is None
        self.allowance.failed(flight.sent_at, now, self._rng.random())
        if window.resting_since is None or not self.history.answered:
            return step
        if was_well:
            self._put_fresh_first()
            logger.warning(
                "%s fails (%s: %s): one request at a time tries until one is answered, for %g s at most.",
                flight.source.endpoint.address,
                verdict.code,
                verdict.text,
                limit_s,
            )
        return step if now - window.resting_since < limit_s else Stop()

    def _put_fresh_first(self) -> None:
        """Let rows that never failed try first: failures of the others may be their own, and draw an outage out."""
        for flight in [*(flight for _, flight in self._ready), *(flight for _, _, flight in self._delayed)]:
            if flight.history.attempts:
                flight.rank = (flight.rank[0], next(self._arrivals))
        self._ready = [(flight.rank, flight) for _, flight in self._ready]
        self._delayed = [(due, flight.rank, flight) for due, _, flight in self._delayed]
        heapify(self._ready)
        heapify(self._delayed)

    def _keep(self, record: Record, flight: Flight) -> None:
        """Send a record on its way to the journal, and from there to whoever waits."""
        count(self.counts, record, flight.source.operation)
        self._unkept.add(flight)
        flight.source.store((record, flight))

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()  # nobody here cancels one
        if error is not None:
            self._on_crash(error)
