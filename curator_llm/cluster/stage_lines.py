"""The two lines of a stage on Dask: partitions come and go, and what they did is said once for all of them.

Nobody tells a process that a stage has seen its last partition. When none has been open for a moment, the line after is
due. Workers log it, and send an event as each partition begins and ends; the client adds those up and prints one line
for all workers.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask.base import tokenize

from curator_llm.engine.engine import Engine
from curator_llm.frame.at_once import cost_of, plan_line_of, say
from curator_llm.frame.counts import Counts
from curator_llm.frame.lines import held_back_by, short, summary_line
from curator_llm.frame.run_rows import Plan, Result, StageSpec

if TYPE_CHECKING:
    from distributed import Client

#: So long nothing of a stage is open until its line is due.
IDLE_S = 1.0
#: So long a client hears nothing of partitions that are open: their worker may be gone.
SILENT_S = 60.0
TOPIC = "curator-llm"

# Dask configures the logs of `distributed` and those below it, on workers and clients alike.
log = logging.getLogger("distributed.curator_llm")

Event = dict[str, Any]


@dataclass
class Tally:
    """What the partitions of a stage have done since its last line.

    Attributes
    ----------
    output : str
    started, ended : float
        Seconds of a monotonic clock.
    open : int
        Partitions at work.
    counts : Counts
    reused : int
        Rows answered from the journal.
    cost_usd : float or None
    held_back_by : str or None
    is_abandoned : bool
        Whether it was said that nobody waits for it any more.
    before : mapping of str to float
        The engine's counts at the start.
    """

    output: str
    started: float
    ended: float = 0.0
    open: int = 0
    counts: Counts = field(default_factory=Counts)
    reused: int = 0
    cost_usd: float | None = None
    held_back_by: str | None = None
    is_abandoned: bool = False
    before: Mapping[str, float] = field(default_factory=dict)

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
    """The lines of all stages of one process. Thread-safe.

    Parameters
    ----------
    say : callable
        Takes lines.
    send : callable, optional
        Takes events for clients.
    idle_s : float
    """

    def __init__(
        self,
        say: Callable[[str], object],
        send: Callable[[Event], object] = lambda _: None,
        idle_s: float = IDLE_S,
    ) -> None:
        self.say = say
        self.send = send
        self._idle_s = idle_s
        self._tallies: dict[str, Tally] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    @contextmanager
    def partition(self, spec: StageSpec, engine: Engine) -> Iterator[PartitionLines | None]:
        """Watch a partition while the context is open; one of a job has the job's own lines."""
        if spec.run is not None:
            yield None
            return
        name = tokenize(repr(spec))
        with self._lock:
            is_first = name not in self._tallies
            tally = self._tallies.setdefault(name, Tally(spec.output, time.monotonic(), before=engine.snapshot()))
        watch = PartitionLines(self, name, tally, spec, engine, is_first=is_first)
        self.add(watch.event(open=1))
        try:
            yield watch
        finally:
            self.add(watch.event(open=-1))

    def add(self, event: Event) -> None:
        """Take note of something that happened here, and tell clients."""
        self.hear(event)
        self.send(event)

    def hear(self, event: Event) -> None:
        """Take note of something that happened, here or on a worker."""
        name, now = event["name"], time.monotonic()
        with self._lock:
            tally = self._tallies.setdefault(name, Tally(event["output"], now))
            tally.ended = now
            tally.open = max(0, tally.open + event["open"])
            tally.counts.add(Counts(Counter(event["statuses"]), Counter(event["failures"])))
            tally.reused += event["reused"]
            if event["cost_usd"] is not None:
                tally.cost_usd = (tally.cost_usd or 0.0) + event["cost_usd"]
            tally.held_back_by = event["held_back_by"] or tally.held_back_by
            self._disarm(name)
            timer = threading.Timer(SILENT_S if tally.open else self._idle_s, self._end, [name])
            timer.name, timer.daemon = "curator-llm lines", True
            timer.start()
            self._timers[name] = timer

    def abandon(self, name: str) -> bool:
        """Mark a stage that nobody waits for any more; tell whether that is new."""
        with self._lock:
            tally = self._tallies.get(name)
            is_new = tally is not None and not tally.is_abandoned
            if tally is not None:
                tally.is_abandoned = True
            return is_new

    def flush(self) -> None:
        """Say what there is to say now: the process ends."""
        for name in list(self._tallies):
            self._end(name)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _end(self, name: str) -> None:
        with self._lock:
            tally = self._tallies.get(name)
            if tally is None or (tally.open and not tally.counts.rows):
                return  # nothing to say yet
            del self._tallies[name]
            self._disarm(name)
        if tally.counts.rows:
            self.say(tally.line())


class PartitionLines:
    """Hears how one partition goes."""

    def __init__(
        self, lines: StageLines, name: str, tally: Tally, spec: StageSpec, engine: Engine, *, is_first: bool
    ) -> None:
        self._lines = lines
        self._name = name
        self._tally = tally
        self._spec = spec
        self._engine = engine
        self._is_first = is_first
        self._reused = 0

    def planned(self, plan: Plan) -> None:
        """Say what the first one asks: the others are not known yet."""
        self._reused = plan.reused
        if self._is_first:
            self._lines.say(plan_line_of(plan, self._spec, f"{self._spec.output} (first partition)"))

    def ended(self, result: Result) -> None:
        """Count it."""
        counts = Counts.of(result.frame, self._spec.output)
        changes = {name: count - self._tally.before.get(name, 0) for name, count in self._engine.snapshot().items()}
        event = self.event(
            statuses=dict(counts.statuses),
            failures=dict(counts.failures),
            reused=self._reused,
            cost_usd=cost_of(self._spec, result),
            held_back_by=held_back_by(changes),
        )
        self._lines.add(event)

    def abandoned(self) -> None:
        """Say, once for all partitions, that nobody waits any more, and how to go on."""
        if self._lines.abandon(self._name):
            journal = self._spec.journal_directory()
            kept = "not kept (journal=False)" if journal is None else f"kept in {short(journal)}"
            rest = "" if journal is None else " Compute it again to ask only for the rest."
            self._lines.say(
                f"{self._spec.output}: interrupted: nothing more is sent, replies that came are {kept}.{rest}"
            )

    def event(self, **values: Any) -> Event:
        """Return an event of this partition."""
        nothing = {"open": 0, "statuses": {}, "failures": {}, "reused": 0, "cost_usd": None, "held_back_by": None}
        return {"name": self._name, "output": self._spec.output, **nothing, **values}


def lines_of_worker(worker: Any) -> StageLines:
    """Return lines that go to a worker's log, and to clients as events."""
    return StageLines(lambda line: log.info("%s", line), lambda event: worker.log_event(TOPIC, event))


#: The lines of stages on Dask's local schedulers, and of clients.
here = StageLines(say)
atexit.register(here.flush)


def listen(client: Client) -> None:
    """Print what the workers of a client's cluster have done, one line for all of them."""
    client.subscribe_topic(TOPIC, lambda event: here.hear(event[1]))
