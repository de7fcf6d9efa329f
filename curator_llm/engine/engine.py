"""The engine: one thread and one event loop per process, one line per quota scope, one writer per journal."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from curator_llm import config
from curator_llm.config import parse_duration
from curator_llm.engine.batch import Batch
from curator_llm.engine.flight import Landing, Owner, Source
from curator_llm.engine.lag import Lag
from curator_llm.engine.leases import Leases
from curator_llm.engine.line import Line
from curator_llm.engine.purse import Purse
from curator_llm.engine.row_counts import RowCounts
from curator_llm.engine.scopes import Scopes
from curator_llm.engine.spending import Spending
from curator_llm.engine.transport.clients import HAS_ENDED
from curator_llm.engine.transports import Transports
from curator_llm.errors import CuratorLLMError, EngineError, JournalError
from curator_llm.journal.store import Journal
from curator_llm.journal.writer import JournalWriter
from curator_llm.limits.allowance import Allowance
from curator_llm.limits.tariff import Tariff
from curator_llm.operations.base import Operation
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.exchange import Request

_CRASHED_DRAIN_S = 10.0

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class Engine:
    """Sends requests for all partitions of this process.

    Parameters
    ----------
    name : str, default "local"
        For the thread's name.
    """

    def __init__(self, name: str = "local") -> None:
        self._pid = os.getpid()
        self._ordinals = itertools.count()
        self._lock = threading.Lock()
        self._batches: dict[Batch, str] = {}
        self._lines: dict[str, Line] = {}
        self._scopes = Scopes()
        self.rows = RowCounts()
        self._leases = Leases(self._lines, self._scopes)
        self._on_need: Callable[[], object] = lambda: None
        self._transports = Transports()
        self._journals: dict[Path, tuple[Journal, JournalWriter[Landing]]] = {}
        self._purses: dict[tuple[Path, str | None], Purse] = {}
        self._opened: list[tuple[Journal, JournalWriter[Landing]]] = []
        self._closed = False
        self._loop = _new_loop()
        self._lag = Lag(self._loop)
        self._thread = threading.Thread(target=self._run, name=f"curator-llm engine {name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the engine can still send; false in a forked child."""
        return not self._closed and self._thread.is_alive() and self._pid == os.getpid()

    def journal(self, directory: Path) -> Journal:
        """Return the open journal of a directory.

        Raises
        ------
        JournalError
            When it cannot be used.
        """
        with self._lock:
            return self._journal(directory)[0]

    def submit(
        self,
        requests: Sequence[tuple[int, Request]],
        *,
        endpoint: Endpoint,
        operation: Operation,
        journal: Path | None,
        run: str | None = None,
        budget: Budget | None = None,
        tariff: Tariff | None = None,
        began_at: float | None = None,
    ) -> Batch:
        """Take requests and return at once.

        Parameters
        ----------
        requests : sequence of (int, Request)
            Slot and request; slots name the outcomes.
        endpoint : Endpoint
        operation : Operation
        journal : Path or None
            Where replies are kept; None for nowhere.
        run : str, optional
            Who pays.
        budget : Budget, optional
            Out of what; has a name, and there is a journal.
        tariff : Tariff, optional
            What requests cost; given with a budget.
        began_at : float, optional
            When the caller began, seconds of ``time.monotonic``: a run that was stopped since is stopped for it, too.

        Raises
        ------
        RunError
            When the key or the journal cannot be used on this machine, or the engine has ended.
        ConfigurationError
            When the endpoint's client cannot be made or used here, or `ca_file` or `proxy` cannot.
        """
        if requests:  # a rerun that finds all its replies needs no client
            self._transports.prepare(endpoint)
        with self._lock:
            if not self.alive:
                raise EngineError(HAS_ENDED)
            batch = Batch([slot for slot, _ in requests], next(self._ordinals), lambda: self.alive)
            if batch.ended:
                return batch
            self._batches = {other: scope for other, scope in self._batches.items() if not other.ended}
            line = self._line(endpoint)
            source = self._source(line, endpoint, operation, journal, run)
            if budget is not None and journal is not None:
                source = dataclasses.replace(source, purse=self._purse(journal, budget), tariff=tariff)
            source.transport.check(requests[0][1])
            self._batches[batch] = endpoint.limits.scope
            self._call(line.accept, batch, source, list(requests), began_at or time.monotonic())
        self._on_need()
        return batch

    def cancel(self, batch: Batch) -> None:
        """Send nothing more for a batch; what is in flight ends and is kept."""
        batch.cancelled = True
        batch.fail(EngineError("The rows were cancelled. Run again: replies that came are kept."))

    def set_share(self, index: int, count: int) -> None:
        """Use only this process's share of all limits: member `index` of `count`."""
        with self._lock:
            if self._scopes.set_share(index, count):
                for scope, line in self._lines.items():
                    self._call(_grant, line, self._scopes.granted(scope))

    def lease(self, on_need: Callable[[], object]) -> Leases:
        """Start nothing but what is granted from now on; `on_need` is called when there are new rows."""
        with self._lock:
            self._scopes.lease()
            self._on_need = on_need
        return self._leases

    def on_loop(self, function: Callable[[], _T]) -> concurrent.futures.Future[_T]:
        """Call a function on the engine's loop.

        Raises
        ------
        RuntimeError
            When the engine has ended.
        """
        done: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def call() -> None:
            try:
                done.set_result(function())
            except Exception as error:  # noqa: BLE001  it belongs to who asked
                done.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return done

    @property
    def incarnation(self) -> str:
        """The name of this engine among all there are and were."""
        return self._leases.incarnation

    def limits(self) -> dict[str, dict[str, float]]:
        """Return by scope the lowest limits that its endpoints ask for."""
        return {scope: self._scopes.limits(scope) for scope in list(self._lines)}

    def counts(self) -> dict[str, dict[str, float]]:
        """Return by scope what there was since the start (sent, done, by status, tokens, rows), and what there is."""
        found: dict[str, dict[str, float]] = self.rows.by_scope()
        for scope, line in list(self._lines.items()):
            permits = line.allowance.permits
            levels = {"in_flight": permits.in_flight, "limit": permits.cap, "backlog": line.backlog}
            found.setdefault(scope, {}).update({**levels, **dict(line.counts)})
        return found

    def snapshot(self) -> dict[str, float]:
        """Return the counts of all scopes together."""
        total: dict[str, float] = {"in_flight": 0, "limit": 0, "backlog": 0}
        for counts in self.counts().values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return total

    def close(self, drain_s: float | None = None) -> None:
        """Send nothing more, let what is in flight end and be kept, and end the thread.

        Parameters
        ----------
        drain_s : float, optional
            How long requests in flight may take; default ``curator-llm.engine.drain``.
        """
        with self._lock:
            if not self.alive:
                return
            self._closed = True
        limit_s = parse_duration(config.get("engine.drain"), "engine.drain") if drain_s is None else drain_s
        # At interpreter exit no executor takes work any more: what blocks is done here, not on the loop.
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._drain(limit_s), self._loop).result()
        self._call(self._loop.stop)
        self._thread.join()

    def _line(self, endpoint: Endpoint) -> Line:
        scope = endpoint.limits.scope
        changed = self._scopes.add(endpoint, in_use=set(self._batches.values()))
        line = self._lines.get(scope)
        if line is None:
            line = self._lines[scope] = Line(
                self._loop,
                Allowance(self._scopes.granted(scope), time.monotonic()),
                repeated_rejections=int(config.get("engine.repeated-rejections")),
                lag=self._lag,
                unreachable_after_s=parse_duration(config.get("engine.unreachable-after"), "engine.unreachable-after"),
                on_crash=self._crashed,
                rng=random.Random(),  # noqa: S311  spreads retries
            )
        elif changed:
            self._call(_grant, line, self._scopes.granted(scope))
        return line

    def _source(
        self, line: Line, endpoint: Endpoint, operation: Operation, journal: Path | None, run: str | None
    ) -> Source:
        transport = self._transports.get(endpoint, operation.client_method)
        if journal is None:
            return Source(line, endpoint, operation, transport, None, self._deliver_unkept, lambda _: None, run)
        store, writer = self._journal(journal)
        return Source(line, endpoint, operation, transport, journal, writer.put, store.find_own, run)

    def _journal(self, directory: Path) -> tuple[Journal, JournalWriter[Landing]]:
        if directory not in self._journals or not directory.joinpath("FORMAT").exists():  # someone cleared it away
            journal = Journal(directory)
            self._journals[directory] = (journal, JournalWriter(journal, self._kept, self._not_kept))
            self._opened.append(self._journals[directory])
        return self._journals[directory]

    def _purse(self, journal: Path, budget: Budget) -> Purse:
        place = (journal, budget.name)
        purse = self._purses.get(place)
        if purse is None:
            spending = Spending(journal, str(budget.name))
            purse = self._purses[place] = Purse(self._loop, budget, spending, lambda error: self._lose(error, []))
        else:
            self._call(purse.resize, budget)
        return purse

    def _kept(self, landings: list[Landing]) -> None:
        """Take what the journal has written, on the writer's thread."""
        self._call(_deliver, landings)

    def _not_kept(self, error: JournalError, landings: list[Landing]) -> None:
        if not self._loop.is_running():  # at the end nobody waits who could be told
            logger.warning("%s", error)
        self._call(self._lose, error, landings)

    def _lose(self, error: JournalError, landings: list[Landing]) -> None:
        for _, flight in landings:
            flight.source.line.lose(flight, error)
        for line in {flight.source.line for _, flight in landings} or set(self._lines.values()):
            line.stop(error)

    def _deliver_unkept(self, landing: Landing) -> None:
        self._loop.call_soon(_deliver, [landing])

    def _stop_lines(self, error: CuratorLLMError) -> None:
        for line in list(self._lines.values()):
            line.stop(error)

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self._crashed(error)
        else:
            loop.default_exception_handler(context)

    def _crashed(self, error: BaseException) -> None:
        """End the engine: nobody may wait for what will not come. The next rows get a new one."""
        if not self._closed:  # else the loop has to go on until the drain's end
            self._closed = True
            self._loop.stop()
        failure = EngineError(f"The engine failed: {type(error).__name__}: {error}. Please report this.")
        for batch in list(self._batches):
            batch.fail(failure)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed; waiting batches notice that the engine is gone
            self._loop.call_soon_threadsafe(function, *args)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._callback_failed)
        try:
            self._lag.watch()
            self._loop.run_forever()
        except BaseException as error:  # noqa: BLE001  nobody may wait for a dead thread
            self._crashed(error)
        finally:
            self._closed = True
            with contextlib.suppress(Exception):  # after a crash: clients are closed, and what is in flight is kept
                self._loop.run_until_complete(asyncio.wait_for(self._drain(0), _CRASHED_DRAIN_S))
            for journal, writer in self._opened:
                writer.close()
                try:
                    journal.close()
                except JournalError as error:  # of a thread that ends: nobody is there to catch it
                    logger.warning("%s", error)
            for purse in self._purses.values():
                with contextlib.suppress(JournalError):  # what it held counts as spent
                    purse.close()
            self._loop.close()

    async def _drain(self, limit_s: float) -> None:
        lines = list(self._lines.values())
        self._stop_lines(EngineError("The engine of this process is closing. Run again: replies are kept."))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                for line in lines:
                    await line.drained()
        await self._transports.close()  # what is still in flight ends as a fault, so no coroutine is cut off
        for line in lines:
            await line.drained()


def _deliver(landings: list[Landing]) -> None:
    by_line: dict[Owner, list[Landing]] = {}
    for landing in landings:
        by_line.setdefault(landing[1].source.line, []).append(landing)
    for line, landed in by_line.items():
        line.deliver(landed)


def _grant(line: Line, amounts: Mapping[str, float]) -> None:
    line.allowance.grant(amounts, time.monotonic())
    line.pump()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where it exists: a request costs a third less CPU on it."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
