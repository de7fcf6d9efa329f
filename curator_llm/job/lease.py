"""The lease on a run directory: one driver works there, whatever host it is on, and a dead one is followed by another.

A holder beats: it rewrites its file every few seconds. Who comes later takes the next number when the holder has ended,
when its process is surely gone (known at once on the same machine), or when its beat stood still on the newcomer's own
clock (clocks of hosts differ): for `STALE_S`, or for `MISSED_S` where the machine's lock is free, but who held it may
live in a container with locks of its own. A holder that sees a higher number has lost: it stops, and writes nothing
any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from curator_llm.errors import ConfigurationError, RunError, RunTakenOverError
from curator_llm.job.lease_files import Holder, LeaseFiles, Look, MachineLock, this_machine

BEAT_S = 5.0
#: How often a holder looks for a higher number and for a request to stop, and a newcomer for the holder's beat.
LOOK_S = 1.0
#: A holder whose beat stands still for so long is taken for dead.
STALE_S = 45.0
#: Where the machine's lock is free, one missed beat tells.
MISSED_S = BEAT_S + 2 * LOOK_S
#: How long a process may hold the machine's lock without a lease: it starts, or ends.
_BETWEEN_S = 2.0

Say = Callable[[str], object]


class Watch:
    """Decides whether a newcomer may take the lease. Pure: looks and time are passed in.

    Parameters
    ----------
    machine : str
        The newcomer's.
    now : float
        On a clock of its own.

    Examples
    --------
    >>> watch = Watch("here", 0.0)
    >>> held = Look(1, "beat 1", Holder(1, "b", "there", 7, "noon"))
    >>> watch.judge(held, "own", 0.0), watch.judge(held, "own", 46.0)
    ('watch', 'free')
    """

    def __init__(self, machine: str, now: float) -> None:
        self._machine = machine
        self._since = now
        self._first: Look | None = None
        #: How long the beat may stand still.
        self.stale_s = STALE_S

    def judge(
        self, look: Look | None, lock: Literal["own", "taken", "unknown"], now: float, *, is_gone: bool = False
    ) -> Literal["free", "held", "watch"]:
        """Say whether the lease is free, held by a process that lives, or still to be watched."""
        holder = look.holder if look else None
        is_open = look is None or (holder is not None and holder.released)
        is_here = holder is not None and holder.machine == self._machine
        if lock == "taken":
            known = is_here and not is_open
            return "held" if known or now - self._since >= _BETWEEN_S else "watch"
        if is_open or (is_gone and lock == "own"):
            return "free"
        self.stale_s = MISSED_S if is_here and lock == "own" else STALE_S
        if self._first is None:
            self._first, self._since = look, now
        if look != self._first:
            return "held"
        return "free" if now - self._since >= self.stale_s else "watch"


class Lease:
    """The right to work in a run directory, kept up by a thread while the context is open.

    Parameters
    ----------
    files : LeaseFiles
    number : int
        Made by this process.
    lock : MachineLock
    clock : callable
        Seconds.

    Attributes
    ----------
    on_stop : callable
        Called when somebody asks this process to stop.
    on_lost : callable
        Called with what to tell people, when another process has taken over.
    lost : str or None
        The same, once that is known.
    """

    def __init__(
        self, files: LeaseFiles, number: int, lock: MachineLock, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.number = number
        self.on_stop: Callable[[], object] = lambda: None
        self.on_lost: Callable[[str], object] = lambda _: None
        self._files = files
        self._lock = lock
        self._clock = clock
        self._me = Holder.here(number)
        self._beat_at = clock()
        self._turn = threading.Lock()
        self.lost: str | None = None
        self._asked = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="curator-llm lease", daemon=True)
        try:
            files.write(self._me)
        except OSError:
            files.remove(number)  # a lease without a holder would be watched as one whose holder is being written
            raise
        files.clean_up(number)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self.lost is None:
                self._files.write(dataclasses.replace(self._me, released=True))
                self._files.end_stop(self.number)
        self._lock.close()

    def check(self) -> None:
        """Make sure that this process still holds the lease, right before it writes what counts.

        Raises
        ------
        RunTakenOverError
            When another process has taken over.
        RunError
            When that cannot be found out.
        """
        try:
            self.look(beat=True)
        except OSError as error:
            msg = f"{self._files.directory} cannot be looked at ({error.strerror}), so nothing was put in place."
            raise RunError(msg) from None
        if self.lost is not None:
            raise RunTakenOverError(self.lost)

    def look(self, *, beat: bool = False) -> None:
        """Look who holds the lease and whether this process is to stop; beat when it is time, or at once."""
        with self._turn:
            if self._overtaken():
                return
            if beat or self._clock() - self._beat_at >= BEAT_S:
                self._me = dataclasses.replace(self._me, beat=self._me.beat + 1)
                self._files.write(self._me)
                self._beat_at = self._clock()
                if self._overtaken():  # a write makes network file systems look anew
                    return
            if not self._asked and self._files.asked_to_stop(self.number):
                self._asked = True
                self.on_stop()

    def _overtaken(self) -> bool:
        if self.lost is None and self._files.highest() > self.number:
            look = self._files.look()
            other = (look and look.holder) or "another process"
            self.lost = (
                f"The run was taken over by {other}, to whom this process gave no sign of life: it goes on there. "
                "Nothing was written here."
            )
            self.on_lost(self.lost)
        return self.lost is not None

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            with contextlib.suppress(OSError):  # a share that is away for a moment; if it stays away, others take over
                self.look()


def take_lease(
    directory: Path,
    *,
    wait: bool = False,
    say: Say = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Lease:
    """Take the lease on a run directory.

    Parameters
    ----------
    directory : Path
        The run directory.
    wait : bool, default False
        Whether to wait for a holder that lives, instead of refusing.
    say : callable
        Takes lines for people.
    clock, sleep : callable
        Seconds.

    Raises
    ------
    ConfigurationError
        When another process is at work there; the message says which.
    OSError
        When the directory cannot be used.
    """
    files = LeaseFiles(directory / "lease")
    lock = files.lock()
    said: set[str] = set()
    watch = Watch(this_machine(), clock())
    try:
        while True:
            look = files.look()
            holder = look.holder if look else None
            verdict = watch.judge(look, lock.state, clock(), is_gone=holder is not None and holder.is_gone)
            if verdict == "free":
                number = (look.number if look else 0) + 1
                if files.create(number):
                    return Lease(files, number, lock, clock=clock)
                continue
            if verdict == "held":
                line = _held_line(directory, holder, lock, wait=wait)
                if not wait:
                    raise ConfigurationError(line)
                watch = Watch(this_machine(), clock())
            else:
                line = (
                    f"The run in {directory} is held by {holder or 'another process'}: taken over if it gives no sign "
                    f"of life for {watch.stale_s:g} s."
                )
            if line not in said and (verdict == "held" or lock.state != "taken"):
                said.add(line)
                say(line)
            sleep(LOOK_S)
            if lock.state == "taken":
                lock.close()
                lock = files.lock()
    except BaseException:
        lock.close()
        raise


def _held_line(directory: Path, holder: Holder | None, lock: MachineLock, *, wait: bool) -> str:
    way = "waiting for its end" if wait else f"wait for it with --wait, or end it with `curator-llm stop {directory}`"
    if holder is None or holder.released:
        return f"Another process is at work in {directory}: process {lock.owner or '?'} of this machine; {way}."
    if lock.state == "taken" and lock.owner not in {"", str(holder.pid)}:
        return (
            f"Another process is about to work in {directory}: process {lock.owner} of this machine, which watches "
            f"whether {holder} is dead; {'waiting for its end' if wait else 'wait for it with --wait'}."
        )
    return f"Another process is at work in {directory}: {holder}; {way}."
