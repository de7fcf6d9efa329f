"""Signals to processes as a schedule out of a seed: who is killed, stopped or told to end, and when.

A schedule counts work, not seconds: the same seed hits the same part of a run on a slow machine, too.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_LOOK_S = 0.01


@dataclass(frozen=True)
class Kill:
    """A signal to one of several processes.

    Parameters
    ----------
    after : int
        So much work is done, such as requests at the server.
    victim : int
        Which process, counted over those that are there then.
    number : signal.Signals
    stopped_s : float
        After SIGSTOP, when SIGCONT follows.
    """

    after: int
    victim: int
    number: signal.Signals = signal.SIGKILL
    stopped_s: float = 0.0


def kill_schedule(
    count: int,
    *,
    work: int,
    seed: int,
    signals: Sequence[signal.Signals] = (signal.SIGKILL,),
    stopped_s: float = 0.0,
) -> list[Kill]:
    """Draw kills that lie apart: one in each of as many equal parts of the work.

    Parameters
    ----------
    count : int
    work : int
        All there is.
    seed : int
    signals : sequence of signal.Signals
        To draw from.
    stopped_s : float
        How long SIGSTOP lasts.

    Examples
    --------
    >>> [kill.after for kill in kill_schedule(3, work=900, seed=1)]
    [40, 335, 795]
    """
    draw = random.Random(seed)  # noqa: S311  a test that can be repeated
    part = work / count
    return [
        Kill(int(part * (place + draw.random())), draw.randrange(1 << 16), draw.choice(signals), stopped_s)
        for place in range(count)
    ]


class Killer:
    """Carries out a schedule while its context is open.

    Parameters
    ----------
    schedule : sequence of Kill
    work : callable
        How much is done.
    victims : callable
        The ids of the processes that are there now; with none of them, a kill waits.

    Attributes
    ----------
    done : list of (Kill, int)
        What was carried out, and on which process.

    Examples
    --------
    >>> import subprocess, sys
    >>> from curator_llm.testing.kills import Kill, Killer
    >>> process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    >>> with Killer([Kill(after=0, victim=0)], work=lambda: 1, victims=lambda: [process.pid]):
    ...     process.wait()
    -9
    >>> process.stdin.close()
    """

    def __init__(
        self, schedule: Sequence[Kill], *, work: Callable[[], int], victims: Callable[[], Sequence[int]]
    ) -> None:
        self.done: list[tuple[Kill, int]] = []
        self._schedule = sorted(schedule, key=lambda kill: kill.after)
        self._work, self._victims = work, victims
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        for kill in self._schedule:
            while self._work() < kill.after:
                if self._ended.wait(_LOOK_S):
                    return
            while not self._carry_out(kill):
                if self._ended.wait(_LOOK_S):
                    return

    def _carry_out(self, kill: Kill) -> bool:
        victims = self._victims()
        if not victims:
            return False
        pid = victims[kill.victim % len(victims)]
        try:
            os.kill(pid, kill.number)
        except ProcessLookupError:
            return False
        if kill.number == signal.SIGSTOP:
            self._ended.wait(kill.stopped_s)
            with contextlib.suppress(ProcessLookupError):  # somebody has given it up, and killed it
                os.kill(pid, signal.SIGCONT)
        self.done.append((kill, pid))
        return True
