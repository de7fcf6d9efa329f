"""The two lines of a stage on Dask: partitions come and go, and what they did is said once for all of them.

Nobody tells a process that a stage has seen its last partition. When none has been open for a moment, the line after is
due. Workers log it, and send an event as each partition begins and ends; the client adds those up and prints one line
for all workers.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from dask.base import tokenize

from curator_llm.cluster.journal_places import compare_journals
from curator_llm.cluster.plain_schedulers import warning_of_plain_scheduler
from curator_llm.engine.engine import Engine
from curator_llm.frame.at_once import cost_of, plan_line_of, say, what_is_kept
from curator_llm.frame.counts import Counts
from curator_llm.frame.lines import held_back_by, summary_line
from curator_llm.frame.run_rows import Plan, Result, StageSpec

if TYPE_CHECKING:
    from distributed import Client

#: So long nothing of a stage is open until its line is due.
IDLE_S = 1.0
#: After so much silence it is looked whether the workers with open partitions are there still.
SILENT_S = 30.0
_LOOK_S = 0.1
TOPIC = "curator-llm"

# Dask configures the logs of `distributed` and those below it, on workers and clients alike.
log = logging.getLogger("distributed.curator_llm")

Event = dict[str, Any]
Say = Callable[[str], object]


@dataclass
class Tally:
    """What the partitions of a stage have done since its last line.

    Attributes
    ----------
    output : str
    started, ended, looked : float
        Seconds of a monotonic clock; `looked`: for the workers of open partitions.
    open : dict of str to int
        Partitions at work, by worker.
    counts : Counts
    reused : int
        Rows answered from the journal.
    cost_usd : float or None
    held_back_by : str or None
    is_abandoned : bool
        Whether it was said that nobody waits for it any more.
    """

    output: str
    started: float
    ended: float = 0.0
    looked: float = 0.0
    open: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    reused: int = 0
    cost_usd: float | None = None
    held_back_by: str | None = None
    is_abandoned: bool = False

    def add(self, event: Event) -> None:
        """Add what happened to a partition."""
        self.open[event["worker"]] = event["open"]
        self.counts.add(Counts(Counter(event["statuses"]), Counter(event["failures"])))
        self.reused += event["reused"]
        if event["cost_usd"] is not None:
            self.cost_usd = (self.cost_usd or 0.0) + event["cost_usd"]
        self.held_back_by = event["held_back_by"] or self.held_back_by

    def line(self) -> str:
        """Return the line after."""
        return summary_line(
            self.output,
            self.counts.statuses,
            seconds=self.ended - self.started,
            failures=dict(self.counts.failures.most_common()),
            reused=self.reused,
            cost_usd=self.cost_usd,
            held_back_by=self.held_back_by,
        )


class StageLines:
    """The lines of all stages of one process, or of one worker. Thread-safe.

    Parameters
    ----------
    say : callable
        Takes lines.
    send : callable, optional
        Takes events for clients.
    worker : str, optional
        The address of the worker whose lines these are.
    idle_s : float
    """

    def __init__(
        self, say: Say, send: Callable[[Event], object] = lambda _: None, worker: str = "", idle_s: float = IDLE_S
    ) -> None:
        self.say = say
        self._send = send
        self._worker = worker
        self._idle_s = idle_s
        #: Whose workers are heard.
        self.clients: WeakSet[Client] = WeakSet()
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child must: what is open is its parent's, and so are locks and threads."""
        self._source = uuid.uuid4().hex
        self._number = 0
        self._heard: dict[str, int] = {}
        self._open: Counter[str] = Counter()
        self._tallies: dict[str, Tally] = {}
        self._lock = threading.Lock()
        self._watching = False

    @contextmanager
    def partition(self, spec: StageSpec, engine: Engine) -> Iterator[PartitionLines | None]:
        """Watch a partition while the context is open; one of a job has the job's own lines."""
        if spec.run is not None:
            yield None
            return
        name = tokenize(repr(spec))
        watch = PartitionLines(self, name, spec, engine, is_first=name not in self._tallies)
        self.happened(name, spec.output, open=1)
        try:
            yield watch
        finally:
            self.happened(name, spec.output, open=-1)

    def happened(self, name: str, output: str, *, open: int = 0, **values: Any) -> None:  # noqa: A002  Tally's word
        """Take note of something that happened here, and tell clients."""
        nothing = {"statuses": {}, "failures": {}, "reused": 0, "cost_usd": None, "held_back_by": None}
        with self._lock:
            self._number += 1
            self._open[name] += open
            origin = {"source": self._source, "number": self._number, "worker": self._worker}
            event = {**origin, "name": name, "output": output, "open": self._open[name], **nothing, **values}
        self.hear(event)
        self._send(event)

    def hear(self, event: Event) -> None:
        """Take note of something that happened, here or on a worker; once, however many clients hear it."""
        with self._lock:
            if event["number"] <= self._heard.get(event["source"], 0):
                return
            self._heard[event["source"]] = event["number"]
            now = time.monotonic()
            tally = self._tallies.setdefault(event["name"], Tally(event["output"], now))
            tally.ended = now
            tally.add(event)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="curator-llm lines", daemon=True).start()

    def abandon(self, name: str) -> bool:
        """Mark a stage that nobody waits for any more; tell whether that is new."""
        with self._lock:
            tally = self._tallies.get(name)
            is_new = tally is not None and not tally.is_abandoned
            if tally is not None:
                tally.is_abandoned = True
            return is_new

    def flush(self, *, unfinished: bool = False) -> None:
        """Say what there is to say now: of stages of which nothing is open, or of all, as when the process ends."""
        for name in list(self._tallies):
            self._end(name, idle_s=0.0, unfinished=unfinished)

    def _watch(self) -> None:
        """Say lines when they are due, until there is nothing to wait for."""
        while True:
            time.sleep(min(_LOOK_S, self._idle_s))
            for name in list(self._tallies):
                self._end(name, idle_s=self._idle_s)
            with self._lock:
                if not self._tallies:
                    self._watching = False
                    return

    def _end(self, name: str, *, idle_s: float, unfinished: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            tally = self._tallies.get(name)
            if tally is None or now - tally.ended < idle_s:
                return
            workers = [worker for worker, count in tally.open.items() if count]
            if workers and not unfinished:
                if now - max(tally.ended, tally.looked) < SILENT_S:
                    return
                tally.looked = now
        if workers and not unfinished and self._any_is_there(workers):
            return
        with self._lock:
            if self._tallies.get(name) is not tally or (tally.ended > now and not unfinished):
                return  # another partition has begun meanwhile
            del self._tallies[name]
        if tally.counts.rows:
            self.say(tally.line())

    def _any_is_there(self, workers: Sequence[str]) -> bool:
        if self._worker in workers:
            return True  # our own
        there: set[str] = set()
        for client in list(self.clients):
            with suppress(Exception):  # a scheduler that is gone has no workers
                there.update(client.scheduler_info(n_workers=-1)["workers"])
        return not there.isdisjoint(workers)


class PartitionLines:
    """Hears how one partition goes."""

    def __init__(self, lines: StageLines, name: str, spec: StageSpec, engine: Engine, *, is_first: bool) -> None:
        self._lines = lines
        self._name = name
        self._spec = spec
        self._engine = engine
        self._is_first = is_first
        self._before: Mapping[str, float] = engine.snapshot()

    def planned(self, plan: Plan) -> None:
        """Say what the first one asks: the others are not known yet."""
        if self._is_first:
            self._lines.say(plan_line_of(plan, self._spec, f"{self._spec.output} (first partition)"))

    def ended(self, result: Result) -> None:
        """Count it."""
        counts = Counts.of(result.frame, self._spec.output)
        changes = {name: count - self._before.get(name, 0) for name, count in self._engine.snapshot().items()}
        self._lines.happened(
            self._name,
            self._spec.output,
            statuses=dict(counts.statuses),
            failures=dict(counts.failures),
            reused=result.reused,
            cost_usd=cost_of(self._spec, result),
            held_back_by=held_back_by(changes),
        )

    def abandoned(self) -> None:
        """Say, once for all partitions, that nobody waits any more, and how to go on."""
        if self._lines.abandon(self._name):
            self._lines.say(f"{self._spec.output}: interrupted: nothing more is sent, {what_is_kept(self._spec)}")


def lines_of_worker(worker: Any) -> StageLines:
    """Return lines that go to a worker's log, and to clients as events."""
    return StageLines(
        lambda line: log.info("%s", line), lambda event: worker.log_event(TOPIC, event), worker=worker.address
    )


#: The lines of stages on Dask's local schedulers, and of clients.
here = StageLines(say)
atexit.register(here.flush, unfinished=True)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=here.reset)


def listen(client: Client) -> None:
    """Print what the workers of a client's cluster have done, one line for all of them. Done once per client."""
    if client not in here.clients:
        here.clients.add(client)
        client.subscribe_topic(TOPIC, lambda event: here.hear(event[1]))
        if (warning := warning_of_plain_scheduler(client)) is not None:
            warnings.warn(warning, stacklevel=3)
        compare_journals(client)
