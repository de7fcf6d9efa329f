"""What stands in a run directory about who works there: plain files that any host can make and read.

::

    lease/
      00000007.json     who holds lease 7, with a beat that goes on while it lives; the highest number holds
      00000007.stop     somebody asks that holder to stop
      <machine>.lock    locked by the process of that machine that holds the lease, or takes it
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from curator_llm.journal.claims import claim

_LEASE = re.compile(r"(\d{8})\.json")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Holder:
    """A process that works in a run directory.

    Parameters
    ----------
    number : int
        Of its lease, the fencing number: what a holder of a lower one writes does not count.
    host : str
    machine : str
        Tells machines, and the boots of one, apart where host names do not.
    pid : int
    started_at : str
    process : str, default ""
        Tells processes that had one number apart, and those of containers; empty where the system does not say.
    beat : int, default 0
        Goes on while the process lives.
    released : bool, default False
        Whether it has ended well.

    Examples
    --------
    >>> str(Holder(7, "node-3", "5f0c", 4711, "2026-11-25T02:40:54+00:00"))
    'process 4711 on node-3, since 2026-11-25T02:40:54+00:00'
    """

    number: int
    host: str
    machine: str
    pid: int
    started_at: str
    process: str = ""
    beat: int = 0
    released: bool = False

    @classmethod
    def here(cls, number: int) -> Holder:
        """Return this process as a holder."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(number, socket.gethostname(), this_machine(), os.getpid(), now, _process(os.getpid()))

    @classmethod
    def read(cls, number: int, text: str) -> Holder | None:
        """Return what a lease file says; None when it is not whole yet."""
        with contextlib.suppress(ValueError, TypeError):
            return cls(**{**json.loads(text), "number": number})
        return None

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine, and of this container, that is surely no more."""
        namespace, _, start = self.process.partition("/")
        if not start or self.machine != this_machine() or namespace != _process(os.getpid()).partition("/")[0]:
            return False
        found = _process(self.pid)
        return found != self.process if found else not _is_there(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started_at}"


@dataclass(frozen=True)
class Look:
    """The highest lease, as it stands in its file at one moment.

    Parameters
    ----------
    number : int
    text : str
        Another one is a sign of life.
    holder : Holder or None
        None while the file is being written.
    """

    number: int
    text: str
    holder: Holder | None


class LeaseFiles:
    """The lease files of a run directory.

    Parameters
    ----------
    directory : Path
        Made by `lock`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def highest(self) -> int:
        """Return the highest number, 0 when there is none."""
        try:
            names = [entry.name for entry in os.scandir(self.directory)]
        except FileNotFoundError:
            return 0
        return max((int(found[1]) for name in names if (found := _LEASE.fullmatch(name))), default=0)

    def look(self) -> Look | None:
        """Return the highest lease, None when there is none."""
        while number := self.highest():
            with contextlib.suppress(FileNotFoundError):  # cleaned up meanwhile, so there is a higher one
                text = self._file(number).read_text(encoding="utf-8", errors="replace")
                return Look(number, text, Holder.read(number, text))
        return None

    def create(self, number: int) -> bool:
        """Make the file of a lease; False when somebody else made it, or a higher one."""
        try:
            os.close(os.open(self._file(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        if self.highest() == number:
            return True
        self.remove(number)
        return False

    def remove(self, number: int) -> None:
        """Remove the file of a lease of this process."""
        with contextlib.suppress(OSError):
            self._file(number).unlink()

    def write(self, holder: Holder) -> None:
        """Write who holds a lease; the file is whole at every moment."""
        file = self._file(holder.number)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(dataclasses.asdict(holder)) + "\n", encoding="utf-8")
        new.replace(file)

    def clean_up(self, number: int) -> None:
        """Remove what belongs to lower leases, and requests to stop this one that came before it."""
        for file in self.directory.iterdir():
            of, _, kind = file.name.partition(".")
            if of.isdecimal() and (int(of) < number and kind in {"json", "new", "stop"}):
                file.unlink(missing_ok=True)
        self.end_stop(number)

    def ask_to_stop(self, number: int) -> None:
        """Ask the holder of a lease to stop."""
        self._stop(number).touch()

    def asked_to_stop(self, number: int) -> bool:
        """Tell whether somebody asks the holder of a lease to stop."""
        return self._stop(number).exists()

    def end_stop(self, number: int) -> None:
        """Remove the request to stop."""
        self._stop(number).unlink(missing_ok=True)

    def lock(self) -> MachineLock:
        """Try to be the process of this machine that works here."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return MachineLock(self.directory / f"{this_machine()}.lock")

    def working(self) -> Holder | None:
        """Return who works here, as far as that can be said without waiting."""
        look = self.look()
        if look is None or look.holder is None or look.holder.released:
            return None
        if look.holder.is_gone:
            with contextlib.suppress(OSError), self.lock() as lock:  # who may only read knows no better
                if lock.state != "taken":
                    return None
        return look.holder

    def _file(self, number: int) -> Path:
        return self.directory / f"{number:08d}.json"

    def _stop(self, number: int) -> Path:
        return self.directory / f"{number:08d}.stop"


class MachineLock:
    """A lock among the processes of one machine, which the system gives back when a process dies.

    Attributes
    ----------
    state : {"own", "taken", "unknown"}
        Unknown where the file system or the system has no such locks.
    owner : str
        Number of the process that has it, or had it last; empty when that is not known.
    """

    def __init__(self, path: Path) -> None:
        self._file: Any = path.open("a+", encoding="utf-8")
        self.state: Literal["own", "taken", "unknown"] = claim(self._file.fileno())
        self._file.seek(0)
        self.owner = self._file.read(20).strip()
        if self.state == "own":
            self.owner = str(os.getpid())
            self._file.truncate(0)
            self._file.write(self.owner)
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it back."""
        self._file.close()


def this_machine() -> str:
    """Return a name of this machine that lasts until it boots anew."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _process(pid: int) -> str:
    """Return what tells a process from all others of a machine: its namespace of numbers, and when it started.

    Without a start where it has ended, empty where the system does not say.
    """
    try:
        namespace = Path("/proc/self/ns/pid").readlink()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *numbers = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return f"{namespace}/" if state in "ZX" else f"{namespace}/{numbers[18]}"


def _is_there(pid: int) -> bool:
    """Tell whether a process has this number, also where /proc hides those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
