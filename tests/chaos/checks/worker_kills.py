"""R3: worker processes are killed in the middle of a run, and no row is lost, doubled or in another's place."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pandas as pd
from distributed import Client, Worker
from distributed.chaos import KillWorker

from curator_llm.testing import FakeServerProcess
from curator_llm.testing.kills import Kill, Killer, kill_schedule
from tests.chaos.clusters import asking, cluster_of_processes, partitioned, worker_processes, wrong_rows
from tests.chaos.programs import start_dask
from tests.chaos.scorecard import Figure, Setting

ID = "R3"
TITLE = "Worker processes are killed"
IN_TESTS = False

ROWS, PARTITIONS, WORKERS, PERMITS = 5_000, 50, 2, 8
KILLS = 6
LATENCY_S = 0.08


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask without kills, with kills, and with the kills that Dask's own tests use."""
    with FakeServerProcess(latency=LATENCY_S, remember=0) as server, cluster_of_processes(WORKERS) as (cluster, _):
        ddf = partitioned(ROWS, PARTITIONS)

        started = time.monotonic()
        asking(server.base_url, setting.scratch / "calm", WORKERS * PERMITS)(ddf).compute()
        calm_s = time.monotonic() - started
        yield Figure("seconds without kills", calm_s)

        server.reset()
        stage = asking(server.base_url, setting.scratch / "kills", WORKERS * PERMITS)
        schedule = kill_schedule(KILLS, work=ROWS, seed=setting.seed)
        with Killer(schedule, work=lambda: server.ledger.requests, victims=lambda: worker_processes(cluster)) as killer:
            started = time.monotonic()
            out = stage(ddf).compute()
            took_s = time.monotonic() - started
        yield Figure("kills", len(killer.done), equals=KILLS)
        yield Figure("rows lost, doubled, misplaced or wrong", wrong_rows(out, ROWS), equals=0)
        server.wait_until(lambda ledger: ledger.in_flight == 0)
        paid = server.ledger.requests
        yield Figure("paid twice", paid - ROWS, at_most=KILLS * PERMITS)
        yield Figure("seconds, by those without kills", took_s / calm_s, at_most=2)

        again = stage(partitioned(ROWS, 7)).compute()
        yield Figure("requests of a second run", server.ledger.requests - paid, equals=0)
        yield Figure("rows that a second run answers otherwise", _different(again, out), equals=0)

        for mode in ("segfault", "graceful"):  # after its sys.exit a nanny does not come back, whatever is asked
            yield from _killed_by_dask(mode, server, setting)
        yield from _stopped(server, setting)


def _stopped(server: FakeServerProcess, setting: Setting) -> Iterator[Figure]:
    """Stop a worker until the scheduler has given it up, and let it wake while another one does its rows."""
    server.reset()
    rows = 2 * ROWS // 5
    with (
        cluster_of_processes(0, **{"distributed.scheduler.worker-ttl": "2s"}) as (cluster, client),
        start_dask("worker", cluster.scheduler_address, "--no-nanny", "--nthreads", "2") as victim,
        start_dask("worker", cluster.scheduler_address, "--no-nanny", "--nthreads", "2") as other,
    ):
        client.wait_for_workers(WORKERS)
        stage = asking(server.base_url, setting.scratch / "stopped", WORKERS * PERMITS)
        stop = Kill(rows // 5, 0, signal.SIGSTOP, stopped_s=9)
        with Killer([stop], work=lambda: server.ledger.requests, victims=lambda: [victim.pid]) as killer:
            out = stage(partitioned(rows, 20)).compute()
        deaths = _deaths(client)
        for process in (victim, other):
            process.terminate()
            process.communicate()
    server.wait_until(lambda ledger: ledger.in_flight == 0)
    yield Figure("SIGSTOP: woken again", len(killer.done), equals=1)
    yield Figure("SIGSTOP: workers given up", deaths, at_least=1)
    yield Figure("SIGSTOP: rows wrong", wrong_rows(out, rows), equals=0)
    yield Figure("SIGSTOP: paid twice", server.ledger.requests - rows, at_most=WORKERS * PERMITS)


def _killed_by_dask(mode: str, server: FakeServerProcess, setting: Setting) -> Iterator[Figure]:
    """Compute while the workers that are there die after a second or so, as Dask's own tests let them."""

    async def doom(dask_worker: Worker) -> None:
        await dask_worker.plugin_add(KillWorker(delay="1s", mode=mode))

    server.reset()
    rows = ROWS // 5
    with cluster_of_processes(WORKERS) as (_, client):
        stage = asking(server.base_url, setting.scratch / mode, WORKERS * PERMITS)
        future = client.compute(stage(partitioned(rows, 20)))
        client.run(doom)
        out, deaths = future.result(timeout=100), _deaths(client)
    server.wait_until(lambda ledger: ledger.in_flight == 0)
    yield Figure(f"KillWorker {mode}: deaths", deaths, at_least=1)
    yield Figure(f"KillWorker {mode}: rows wrong", wrong_rows(out, rows), equals=0)
    # A worker may have had all permits while the other one was not there.
    yield Figure(f"KillWorker {mode}: paid twice", server.ledger.requests - rows, at_most=deaths * WORKERS * PERMITS)


def _deaths(client: Client) -> int:
    return sum(event["action"] == "remove-worker" for _, event in client.get_events("all"))


def _different(one: pd.DataFrame, other: pd.DataFrame) -> int:
    return int((one.fillna("") != other.fillna("")).any(axis=1).sum())
