"""How far a run is, asked from outside: its run directory says which scheduler to ask while it is at work."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from distributed import Client

from curator_llm.cluster.look import Look
from curator_llm.cluster.progress import Progress
from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.again import manifest_of
from curator_llm.job.report_text import report_text
from curator_llm.job.run_directory import RunDirectory

#: In a run directory, while the run is at work.
FILE = "scheduler.json"
_CONNECT_S = 5.0


@contextlib.contextmanager
def findable(run_dir: Path, address: str, *, total: int | None) -> Iterator[None]:
    """Say in a run directory which scheduler knows how far the run is, while the context is open.

    Parameters
    ----------
    run_dir : Path
    address : str
        Of the scheduler; one within a process is said to nobody.
    total : int or None
        Rows there are in all, where the cluster does nothing else.
    """
    if address.startswith("inproc://"):
        yield
        return
    file, said = run_dir / FILE, {"address": address, "total": total}
    new = file.with_name(f"{FILE}.new")
    with contextlib.suppress(OSError):  # a run goes on when nobody can look
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as text:
            json.dump(said, text)
        new.replace(file)
    try:
        yield
    finally:
        if _said_in(run_dir) == said:  # else another process has taken the run over
            with contextlib.suppress(OSError):
                file.unlink()


def run_status(run_dir: Path) -> str:
    """Return how far the run in a directory is, or how it ended.

    Raises
    ------
    ConfigurationError
        When it is no run directory.
    """
    manifest_of(run_dir)
    holder, said = RunDirectory(run_dir).working(), _said_in(run_dir)
    if holder is None or said is None:
        return report_text(run_dir)
    total = said.get("total")
    try:
        text = cluster_status(str(said.get("address")), total=total if isinstance(total, int) else None)
    except RunError as error:
        text = f"How far it is cannot be asked from here. {error}"
    return f"At work here: {holder}.\n{text}"


def cluster_status(address: str, *, total: int | None = None) -> str:
    """Return what the coordinator of a cluster knows now: of all runs on it.

    Parameters
    ----------
    address : str
        Of its scheduler.
    total : int, optional
        Rows there are in all.

    Raises
    ------
    RunError
        When no scheduler answers there.
    """
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError):
        msg = f"No scheduler answers at {address!r} within {_CONNECT_S:g} s: check the address, and that it runs."
        raise RunError(msg) from None
    with client:
        return _text(Progress(client, total=total).look())


def address_in(file: Path) -> str:
    """Return the address that a scheduler has written to its file.

    Raises
    ------
    ConfigurationError
        When there is none.
    """
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError):
        msg = f"{file} says no address: name the file that `dask scheduler --scheduler-file` has written."
        raise ConfigurationError(msg) from None


def _text(look: Look) -> str:
    facts = [("workers", str(look.workers)), *look.facts]
    lines = [f"{name:<14}{fact}" for name, fact in facts]
    if len(look.scopes) > 1:
        lines += [f"{scope.name}: {Look((scope,))}" for scope in look.scopes]
    return "\n".join(lines)


def _said_in(run_dir: Path) -> dict[str, object] | None:
    try:
        said = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None
