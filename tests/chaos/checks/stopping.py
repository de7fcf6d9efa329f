"""R11: whoever stops waiting stops the spending, and what was paid for is kept."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from distributed import Client, Future, LocalCluster

from curator_llm.journal.contents import contents
from curator_llm.testing import FakeServerProcess, Ledger
from tests.chaos.clusters import asking, cluster_of_processes, partitioned
from tests.chaos.programs import start, start_dask
from tests.chaos.scorecard import Figure, Setting

ID = "R11"
TITLE = "Ctrl-C, cancel, a client or a scheduler that is gone, a worker that is retired or told to end"
IN_TESTS = False

#: Rows of a partition.
ROWS, PARTITIONS, PERMITS = 200, 100, 16
LATENCY_S = 0.1
#: So many requests are sent before something happens.
UNDER_WAY = 200
#: So long it is quiet before the last request is taken for the last one.
QUIET_S = 2.5

CLIENT = f"""
import sys
from pathlib import Path
from distributed import Client
from tests.chaos.clusters import asking, partitioned
client = Client(sys.argv[1])
stage = asking(sys.argv[2], Path(sys.argv[3]), {PERMITS})
try:
    stage(partitioned({ROWS}, {PARTITIONS})).compute()
except KeyboardInterrupt:
    input()
"""


Way = Callable[[Path], AbstractContextManager[float]]


def figures(setting: Setting) -> Iterator[Figure]:
    """Stop a run in each of the ways."""
    with FakeServerProcess(latency=LATENCY_S) as server:
        with cluster_of_processes() as (cluster, client):
            ways: dict[str, Way] = {
                "future.cancel": lambda journal: _cancelled(client, server, journal),
                "cancel of small partitions": lambda journal: _cancelled(client, server, journal, rows=5),
                "del future": lambda journal: _forgotten(client, server, journal),
                "client.close": lambda journal: _closed(cluster, server, journal),
                "Ctrl-C": lambda journal: _signalled(cluster, server, journal, signal.SIGINT),
                "client killed": lambda journal: _signalled(cluster, server, journal, signal.SIGKILL),
                "client.restart": lambda journal: _restarted(client, server, journal),
            }
            yield from _measured(ways, server, setting)
        with cluster_of_processes(workers=0) as (cluster, client):
            ways = {
                "SIGTERM to a worker": lambda journal: _ended(client, server, journal, "--no-nanny"),
                "SIGTERM to a nanny": lambda journal: _ended(client, server, journal, "--nanny"),
                "retire_workers": lambda journal: _retired(client, server, journal),
            }
            yield from _measured(ways, server, setting)
        yield from _measured({"scheduler killed": lambda journal: _headless(server, journal)}, server, setting)


def _measured(ways: dict[str, Way], server: FakeServerProcess, setting: Setting) -> Iterator[Figure]:
    for way, stop in ways.items():
        journal = setting.scratch / way
        server.reset()
        with stop(journal) as stopped_s:
            ledger = _when_quiet(server)
        last_s = max(seen.at_s for seen in ledger.seen) - stopped_s
        yield Figure(f"{way}: seconds to the last request", round(max(0.0, last_s), 2), at_most=2)
        yield Figure(f"{way}: replies that are not kept", ledger.requests - contents(journal).distinct, equals=0)


def _when_quiet(server: FakeServerProcess) -> Ledger:
    """Wait until nothing has been sent for a while."""
    while True:
        before = server.ledger.requests
        time.sleep(QUIET_S)
        if server.ledger.requests == before:
            return server.read_ledger()


def _under_way(client: Client, server: FakeServerProcess, journal: Path, rows: int = ROWS) -> Future:
    ddf = partitioned(rows * PARTITIONS, PARTITIONS)
    future = client.compute(asking(server.base_url, journal, PERMITS)(ddf))
    _wait(server)
    return future


def _wait(server: FakeServerProcess) -> None:
    server.wait_until(lambda ledger: ledger.requests >= UNDER_WAY, timeout_s=60)


@contextmanager
def _cancelled(client: Client, server: FakeServerProcess, journal: Path, rows: int = ROWS) -> Iterator[float]:
    """Cancel; few rows a partition mean that some wait until others are done."""
    future = _under_way(client, server, journal, rows)
    future.cancel()
    yield time.monotonic()


@contextmanager
def _forgotten(client: Client, server: FakeServerProcess, journal: Path) -> Iterator[float]:
    future = _under_way(client, server, journal)
    del future
    yield time.monotonic()


@contextmanager
def _closed(cluster: LocalCluster, server: FakeServerProcess, journal: Path) -> Iterator[float]:
    client = Client(cluster, set_as_default=False)
    future = _under_way(client, server, journal)
    stopped_s = time.monotonic()
    client.close()
    yield stopped_s
    del future


@contextmanager
def _signalled(
    cluster: LocalCluster, server: FakeServerProcess, journal: Path, number: signal.Signals
) -> Iterator[float]:
    """Send a signal to a client; after Ctrl-C it stays, as a notebook does."""
    with start(CLIENT, cluster.scheduler_address, server.base_url, str(journal)) as program:
        _wait(server)
        program.send_signal(number)
        yield time.monotonic()
        program.kill()


@contextmanager
def _restarted(client: Client, server: FakeServerProcess, journal: Path) -> Iterator[float]:
    future = _under_way(client, server, journal)
    stopped_s = time.monotonic()
    client.restart()
    yield stopped_s
    del future


@contextmanager
def _ended(client: Client, server: FakeServerProcess, journal: Path, nanny: str) -> Iterator[float]:
    """Send SIGTERM to a worker that was started as its command line does."""
    address = client.scheduler.address
    with start_dask("worker", address, nanny, "--nthreads", "2", "--no-dashboard") as worker:
        future = _under_way(client, server, journal)
        worker.terminate()
        yield time.monotonic()
        worker.kill()
        future.cancel()


@contextmanager
def _retired(client: Client, server: FakeServerProcess, journal: Path) -> Iterator[float]:
    """Retire one of two workers; the other one may not do its rows."""
    parts = ("worker", client.scheduler.address, "--no-nanny", "--nthreads", "2", "--no-dashboard", "--name")
    with start_dask(*parts, "retired") as retired, start_dask(*parts, "other") as other:
        client.wait_for_workers(2)
        ddf = partitioned(ROWS * PARTITIONS, PARTITIONS)
        future = client.compute(asking(server.base_url, journal, PERMITS)(ddf), workers=["retired"])
        _wait(server)
        client.retire_workers(names=["retired"])
        yield time.monotonic()
        future.cancel()
        retired.kill()
        other.kill()


@contextmanager
def _headless(server: FakeServerProcess, journal: Path) -> Iterator[float]:
    """Kill the scheduler under a worker that goes on for as long as it does not know."""
    file = journal.parent / "scheduler.json"
    with (
        start_dask("scheduler", "--scheduler-file", str(file), "--no-dashboard", "--port", "0") as scheduler,
        start_dask(
            "worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "2", "--no-dashboard"
        ) as worker,
    ):
        client = Client(scheduler_file=str(file), set_as_default=False)
        future = _under_way(client, server, journal)
        scheduler.kill()
        yield time.monotonic()
        worker.kill()
        client.close(timeout=1)
        del future
