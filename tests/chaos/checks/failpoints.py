"""R4: a process that ends at any of the named places leaves a run that goes on as if nothing had been."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from curator_llm.job.verify import verify_run
from curator_llm.journal.contents import contents
from curator_llm.testing import FakeServer
from curator_llm.testing.failpoints import EXIT_CODE, FAILPOINTS
from tests.chaos.jobs import in_a_child, is_whole, run_here, run_to, write_job
from tests.chaos.scorecard import Figure, Setting

ID = "R4"
TITLE = "The process ends at each of the failpoints, and the run is gone on with"
IN_TESTS = True

PERMITS = 8
#: How often a run comes by at the most, by what the failpoint is of; by the others it comes per request or two.
FEW = {"sync": 3, "roll": 3, "index": 3, "part": 3}
ONCE = {"manifest": 1, "output": 1, "rename": 1, "report": 1, "success": 1}
SMALL = ("before_judge", "within_append", "after_append", "after_rename")


@dataclass(frozen=True)
class Outcome:
    """What became of a run that ended at a failpoint, and was gone on with twice."""

    was_met: bool
    is_whole: bool
    is_sound: bool
    paid_twice: int
    kept_and_paid_again: int
    asked_when_done: int


def figures(setting: Setting) -> Iterator[Figure]:
    """End a run at each failpoint, and go on with it."""
    rows = setting.size(small=60, full=200)
    draw = random.Random(setting.seed)
    passings = {name: _passing(name, rows, draw) for name in (SMALL if setting.small else FAILPOINTS)}

    def end_and_go_on(name: str) -> Outcome:
        directory = setting.scratch / name
        directory.mkdir()
        return _outcome(name, passings[name], directory, rows)

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(end_and_go_on, passings))
    yield Figure("failpoints met", sum(one.was_met for one in outcomes), equals=len(passings))
    yield Figure("runs that are not whole", sum(not one.is_whole for one in outcomes), equals=0)
    yield Figure("runs that do not verify", sum(not one.is_sound for one in outcomes), equals=0)
    yield Figure("paid twice, at the most", max(one.paid_twice for one in outcomes), at_most=PERMITS)
    yield Figure("paid again though it was kept", sum(one.kept_and_paid_again for one in outcomes), equals=0)
    at_end = [one.paid_twice for name, one in zip(passings, outcomes, strict=True) if _of(name) in ONCE]
    yield Figure("paid twice once all was answered", sum(at_end), equals=0)
    yield Figure("requests of a run that was done", sum(one.asked_when_done for one in outcomes), equals=0)


def _of(name: str) -> str:
    return name.partition("_")[2]


def _passing(name: str, rows: int, draw: random.Random) -> int:
    return draw.randint(1, (FEW | ONCE).get(_of(name), rows // 10))


def _outcome(name: str, passing: int, directory: Path, rows: int) -> Outcome:
    with FakeServer(latency=lambda prompt, _: 0.002 * (1 + int(prompt.split()[1]) % 5)) as server:
        file = write_job(directory, server.base_url, rows=rows, permits=PERMITS)
        code = in_a_child(run_to, name, passing, file, rows // 3, rows // 4)
        server.wait_until(lambda ledger: ledger.in_flight == 0)
        sent, kept = server.ledger.requests, _kept(directory)
        in_a_child(run_here, file, rows // 5)
        whole, first = is_whole(directory, rows), pd.read_parquet(directory / "out")
        requests = server.ledger.requests
        in_a_child(run_here, file, rows)
        return Outcome(
            was_met=code == EXIT_CODE,
            is_whole=whole and pd.read_parquet(directory / "out").equals(first),
            is_sound=not verify_run(directory / "run").problems,
            paid_twice=requests - rows,
            kept_and_paid_again=requests - sent - (rows - kept),
            asked_when_done=server.ledger.requests - requests,
        )


def _kept(directory: Path) -> int:
    """Return how many requests have their reply in the journal."""
    journal = directory / "run" / "journal"
    return contents(journal).distinct if (journal / "FORMAT").exists() else 0
