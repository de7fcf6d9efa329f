"""R5: the driver or the scheduler is killed, and the run goes on elsewhere, in other pieces."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from curator_llm import QueryModel
from curator_llm.frame.columns import table_of
from curator_llm.job.verify import verify_run
from curator_llm.journal.contents import contents
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.testing import FakeServerProcess, answer_to
from curator_llm.wire.exchange import Record, Request
from tests.chaos.clusters import asking
from tests.chaos.frames import texts
from tests.chaos.jobs import is_whole, write_job
from tests.chaos.programs import start, start_dask
from tests.chaos.scorecard import Figure, Setting

ID = "R5"
TITLE = "The driver or the scheduler is killed, and another one goes on"
IN_TESTS = False

ROWS, PERMITS = 2_000, 16
#: Rows of a piece, before the kill and after it.
PIECE, OTHER_PIECE = 150, 70
LATENCY_S = 0.05
JOURNALED, NEW = 100_000, 100

DRIVER = """
import sys
from pathlib import Path
from curator_llm.job.data import pieces
from curator_llm.job.file.job_file import load_job
from curator_llm.job.run import run_job
pieces.FEWEST_ROWS = int(sys.argv[2])
raise SystemExit(run_job(load_job(Path(sys.argv[1])), say=lambda line: print(line, flush=True)).exit_code)
"""


def figures(setting: Setting) -> Iterator[Figure]:
    """Kill the driver; kill the scheduler of a cluster that was there; go on with a long journal."""
    with FakeServerProcess(latency=LATENCY_S, remember=0) as server:
        yield from _driver_killed(server, _made(setting.scratch / "driver"))
        server.reset()
        yield from _scheduler_killed(server, _made(setting.scratch / "scheduler"))
        server.reset()
        yield from _long_journal(server, _made(setting.scratch / "long"))


def _driver_killed(server: FakeServerProcess, directory: Path) -> Iterator[Figure]:
    file = write_job(directory, server.base_url, rows=ROWS, permits=PERMITS, cluster={"n_workers": 2})
    with start(DRIVER, str(file), str(PIECE)) as driver:
        _wait(server)
        driver.kill()
        driver.communicate()
    yield from _gone_on_with("driver killed", server, file)


def _scheduler_killed(server: FakeServerProcess, directory: Path) -> Iterator[Figure]:
    with _cluster(directory) as (scheduler, address):
        cluster = {"cluster": {"scheduler": address}}
        file = write_job(directory, server.base_url, rows=ROWS, permits=PERMITS, **cluster)
        with start(DRIVER, str(file), str(PIECE)) as driver:
            _wait(server)
            scheduler.kill()
            killed_s = time.monotonic()
            driver.communicate()
            ended_s = time.monotonic()
        yield Figure("scheduler killed: seconds until the driver ends", ended_s - killed_s, at_most=60)
        yield Figure("scheduler killed: exit code of the driver", driver.returncode, equals=75)
    with _cluster(directory) as (_, address):
        cluster = {"cluster": {"scheduler": address}}
        write_job(directory, server.base_url, rows=ROWS, permits=PERMITS, **cluster)
        yield from _gone_on_with("scheduler killed", server, file)


def _long_journal(server: FakeServerProcess, directory: Path) -> Iterator[Figure]:
    rows = JOURNALED + NEW
    file = write_job(directory, server.base_url, rows=rows, permits=PERMITS, cluster={"n_workers": 2})
    _fill(directory / "run" / "journal", asking(server.base_url, directory, PERMITS), rows)
    started_s = time.monotonic()
    with start(DRIVER, str(file), "5000") as driver:
        server.wait_until(lambda ledger: ledger.requests > 0, timeout_s=60)
        yield Figure(f"{JOURNALED:,} replies kept: seconds to the first new request", time.monotonic() - started_s)
        driver.communicate()
    yield Figure(f"{JOURNALED:,} replies kept: requests", server.ledger.requests, equals=NEW)
    yield Figure(f"{JOURNALED:,} replies kept: output is not whole", not is_whole(directory, rows), equals=0)


def _gone_on_with(what: str, server: FakeServerProcess, file: Path) -> Iterator[Figure]:
    """Run the job again, in other pieces."""
    directory = file.parent
    server.wait_until(lambda ledger: ledger.in_flight == 0)
    sent, kept = server.ledger.requests, contents(directory / "run" / "journal").distinct
    started_s = time.monotonic()
    with start(DRIVER, str(file), str(OTHER_PIECE)) as driver:
        server.wait_until(lambda ledger: ledger.requests > sent, timeout_s=60)
        first_s = time.monotonic() - started_s
        driver.communicate()
    requests = server.ledger.requests
    yield Figure(f"{what}: replies kept", kept, at_least=1)
    yield Figure(f"{what}: share of them that is used", (ROWS - (requests - sent)) / kept, equals=1)
    yield Figure(f"{what}: paid twice", requests - ROWS, at_most=PERMITS)
    yield Figure(f"{what}: seconds to the first new request", first_s)
    yield Figure(f"{what}: exit code of the next run", driver.returncode, equals=0)
    yield Figure(f"{what}: output is not whole", not is_whole(directory, ROWS), equals=0)
    yield Figure(f"{what}: what `verify` complains of", len(verify_run(directory / "run").problems), equals=0)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _wait(server: FakeServerProcess) -> None:
    server.wait_until(lambda ledger: ledger.requests >= ROWS // 3, timeout_s=60)


@contextlib.contextmanager
def _cluster(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a scheduler and two workers as their command lines do."""
    file = directory / "scheduler.json"
    file.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        parts = ["--scheduler-file", str(file), "--no-dashboard"]
        processes = [start_dask("scheduler", *parts, "--port", "0")]
        processes += [start_dask("worker", *parts, "--no-nanny", "--nthreads", "2") for _ in range(2)]
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.kill)
        while not file.exists():
            time.sleep(0.05)
        yield processes[0], json.loads(file.read_text())["address"]


def _fill(journal: Path, stage: QueryModel, rows: int) -> None:
    """Write the replies of all rows but a few, which lie apart."""
    frame = texts(rows)
    operation = stage.spec.operation
    requests = operation.requests(table_of(frame, operation.inputs), rows)
    every = rows // NEW
    records = []
    for number, (text, request) in enumerate(zip(frame["text"], requests, strict=True)):
        if number % every or number // every >= NEW:
            assert isinstance(request, Request)
            message = {"role": "assistant", "content": answer_to(text)}
            body = json.dumps({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}).encode()
            records.append(
                Record(
                    key=request.key.hex(), op=operation.id, status="ok", final=True, attempts=1, at=time.time(),
                    reply=embed(body), http=200, billed=True,
                )
            )  # fmt: skip
    with Journal(journal) as kept:
        kept.append(records)
