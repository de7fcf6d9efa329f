"""R13: the journal's disk is full, ill or read-only, at any moment: sending stops, and nothing is lost.

Three injectors: a file system that is full, where the system lets one be mounted; a limit on the size of files; and
system calls that fail. A job run is tried with each of its syncs failing in turn.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import pandas as pd
import yaml

from curator_llm import QueryModel, runtime
from curator_llm.errors import ConfigurationError, JournalError
from curator_llm.job.file.job_file import load_job
from curator_llm.job.run import run_job
from curator_llm.journal import segment
from curator_llm.testing import FakeServer, answer_to
from tests.chaos.frames import asking, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R13"
TITLE = "The journal's disk is full, ill or read-only, at any moment"
IN_TESTS = False

CAP = 8
ROWS = 160
MOMENTS = ("open", "first append", "mid-run", "sync and close")
_MEGABYTE = 1 << 20


@dataclass
class Cell:
    """What came of one injector at one moment."""

    sent_after: int = 0
    paid_twice: int = 0
    wrong_or_lost: int = 0
    unsaid: int = 0


def figures(setting: Setting) -> Iterator[Figure]:
    """Break the disk, ask, mend it, ask again."""
    cells = [
        try_one(setting.scratch / f"{injector.__name__} {moment}", injector(moment))
        for injector in (failing_calls, file_size_limit)
        for moment in MOMENTS
    ]
    cells += _on_a_full_file_system(setting.scratch)
    yield Figure("injectors times moments that the system allows, of 12", len(cells), at_least=8)
    yield Figure("most requests sent after the fault", max(cell.sent_after for cell in cells), at_most=CAP)
    yield Figure("faults that were not said", sum(cell.unsaid for cell in cells), equals=0)
    yield Figure("rows wrong or lost after it was mended", sum(cell.wrong_or_lost for cell in cells), equals=0)
    # those the writer has and those in flight
    yield Figure("most requests paid twice", max(cell.paid_twice for cell in cells), at_most=2 * CAP)
    tried, raised, lost = _jobs(setting.scratch / "jobs")
    yield Figure("job runs with a failing sync", tried, at_least=4)
    yield Figure("of these without an exit code or with a crash", raised, equals=0)
    yield Figure("of these whose rerun is not whole, or pays again", lost, equals=0)


Injector = Callable[[Path, "FakeServer"], AbstractContextManager[object]]


def try_one(directory: Path, broken: Injector) -> Cell:
    """Ask with a disk that breaks; then with one that is whole."""
    cell, said = Cell(), _Said()
    frame = texts(ROWS)
    at_fault: list[int] = []
    with (
        FakeServer(latency=0.01) as server,
        dask.config.set({"curator-llm.journal.path": str(directory), "curator-llm.journal.sync-interval": "20ms"}),
    ):
        stage = asking(server, max_concurrent_requests=CAP)
        told = segment.journal_error

        def noticed(*arguments: Any) -> JournalError:
            at_fault.append(server.ledger.requests)
            return told(*arguments)

        with patch.object(segment, "journal_error", noticed), patch("curator_llm.journal.store.journal_error", noticed):
            logging.getLogger("curator_llm").addHandler(said)
            with broken(directory, server):
                try:
                    stage(frame)
                except JournalError:
                    said.lines.append("raised")
                runtime.close()
            logging.getLogger("curator_llm").removeHandler(said)
        if at_fault:
            cell.sent_after = server.ledger.requests - at_fault[0]
        cell.unsaid = int(bool(at_fault) and not said.lines)
        _ask_again(stage, frame, cell)
        cell.paid_twice = server.ledger.requests - ROWS
        before = server.ledger.requests
        _ask_again(stage, frame, cell)
        cell.wrong_or_lost += server.ledger.requests - before
        runtime.close()
    return cell


def _ask_again(stage: QueryModel, frame: pd.DataFrame, cell: Cell) -> None:
    out = stage(frame)
    cell.wrong_or_lost += int((out["a"] != out["text"].map(answer_to)).sum())


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def failing_calls(moment: str) -> Injector:
    """Return the context in which system calls on the journal fail: read-only, full and ill by turns."""
    code = {"open": errno.EROFS, "first append": errno.ENOSPC}.get(moment, errno.EIO)

    @contextmanager
    def broken(directory: Path, server: FakeServer) -> Iterator[None]:
        def is_due(call: str, path: str) -> bool:
            if not path.startswith(str(directory)):
                return False
            if moment == "open":
                return call == "open"
            if moment == "first append":
                return call == "write" and Path(path).stat().st_size > 0  # behind the header
            late = server.ledger.requests > ROWS // 2
            return late and call == ("write" if moment == "mid-run" else "sync")

        def failing(call: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def instead(target: Any, *arguments: Any, **named: Any) -> Any:
                path = str(Path(f"/proc/self/fd/{target}").readlink()) if isinstance(target, int) else str(target)
                if is_due(call, path):
                    raise OSError(code, os.strerror(code), path)
                return real(target, *arguments, **named)

            return instead

        calls = {"open": "open", "write": "write", "fdatasync": "sync", "fsync": "sync"}
        with ExitStack() as stack:
            for name, call in calls.items():
                stack.enter_context(patch.object(os, name, failing(call, getattr(os, name))))
            yield

    return broken


def file_size_limit(moment: str) -> Injector:
    """Return the context in which files may not grow beyond a size: `ulimit -f`."""

    @contextmanager
    def broken(directory: Path, server: FakeServer) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)

        def limit(size: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

        try:
            if moment == "sync and close":
                with patch.object(segment.SegmentWriter, "close", _then(lambda: limit(0), segment.SegmentWriter.close)):
                    yield
            else:
                limit({"open": 0, "first append": 200, "mid-run": 40_000}[moment])
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return broken


def full_file_system(moment: str) -> Injector:
    """Return the context in which the journal's own file system is full."""

    @contextmanager
    def broken(directory: Path, server: FakeServer) -> Iterator[None]:
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(directory)], check=True)
        filler = directory / "filler"
        kept = {"open": 0, "first append": 4_096 * 6, "mid-run": 4_096 * 14, "sync and close": _MEGABYTE}[moment]
        _fill(filler, kept)
        try:
            with patch.object(
                segment.SegmentWriter, "close", _then(lambda: _fill(filler, 0), segment.SegmentWriter.close)
            ):
                yield
        finally:
            filler.unlink()

    return broken


def _fill(file: Path, kept: int) -> None:
    """Leave so many bytes of a file system free."""
    status = os.statvfs(file.parent)
    with file.open("ab", buffering=0) as opened:
        left = status.f_bavail * status.f_frsize - kept
        while left > 0:
            left -= opened.write(bytes(min(left, 4_096)))


def _then(first: Callable[[], object], then: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any) -> Any:
        first()
        return then(*arguments)

    return both


def _on_a_full_file_system(scratch: Path) -> list[Cell]:
    """Try it in a process that may mount one, for itself alone."""
    own = ["unshare", "--map-root-user", "--mount"]
    try:
        if subprocess.run([*own, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
            return []
    except FileNotFoundError:
        return []
    done = subprocess.run(
        [*own, sys.executable, "-W", "error", "-m", __name__, str(scratch)], check=True, stdout=subprocess.PIPE
    )
    return [Cell(**said) for said in json.loads(done.stdout)]


def _jobs(directory: Path) -> tuple[int, int, int]:
    """Run a job with each of its syncs failing in turn; return how many there were, how many crashed, and lost rows."""
    directory.mkdir()
    texts(ROWS).to_parquet(directory / "docs.parquet")
    tried = raised = lost = 0
    real = os.fsync
    failing = 1
    with FakeServer() as server:
        while failing:
            home = directory / str(failing)
            home.mkdir()
            job = home / "job.yaml"
            job.write_text(yaml.safe_dump(_job(directory, home, server)))
            count = 0

            def fsync(file: int, at: int = failing) -> None:
                nonlocal count
                count += 1
                if count >= at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                real(file)

            with patch.object(os, "fsync", fsync), patch.object(os, "fdatasync", fsync):
                try:
                    code = run_job(load_job(job), say=lambda _: None, processes=False).exit_code
                except ConfigurationError:
                    code = 2
            if count < failing:  # there are no more
                break
            tried, raised, failing = tried + 1, raised + (code not in {2, 3}), failing + 1
            ending = run_job(load_job(job), say=lambda _: None, processes=False)
            out = pd.read_parquet(home / "out")
            good = ending.exit_code == 0 and (out["a"] == out["text"].map(answer_to)).sum() == ROWS
            lost += not good or server.ledger.requests > ROWS + 2 * CAP
            server.reset()
    return tried, raised, lost


def _job(directory: Path, home: Path, server: FakeServer) -> dict[str, Any]:
    return {
        "version": 1,
        "run_dir": str(home / "run"),
        "input": {"parquet": str(directory / "docs.parquet")},
        "output": {"parquet": str(home / "out")},
        "endpoints": {"m": {"model": "m", "base_url": server.base_url, "max_concurrent_requests": CAP}},
        "stages": [{"query_model": {"endpoint": "m", "prompt": "{text}", "output": "a"}}],
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(json.dumps([asdict(try_one(place / f"full {moment}", full_file_system(moment))) for moment in MOMENTS]))
