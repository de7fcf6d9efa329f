"""What a thousand workers cost the scheduler: the book's time for each report, and that of a whole call.

Run ``python benchmarks/coordinator_cost.py``. The book is simulated with 1,000 members and three resources. Calls are
made by one client over TCP on this machine, 16 at a time, with the report of one member; the scheduler's time for one
is taken as 1 / rate, which counts the client's own work, too. Workers report ``WORKERS / WORKERS_A_SECOND`` seconds
apart.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import msgspec
from distributed import Client, LocalCluster

from curator_llm.cluster.coordinator import SYNC, VERSION, WORKERS_A_SECOND, Coordinator
from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS
from curator_llm.limits.lease_book import LeaseBook, Report

WORKERS, ROUNDS, CALLS, AT_ONCE = 1_000, 3, 2_000, 16
LIMITS = {PERMITS: 16.0 * WORKERS, REQUESTS: 1e5, TOKENS: 1e8}
WANT = {PERMITS: 40.0, REQUESTS: 1e5, TOKENS: 1e7}


def book_s() -> float:
    """Return the seconds for one report of one of so many members, each reporting in turn over ten seconds."""
    book, held = LeaseBook({}), {}
    interval_s = WORKERS / WORKERS_A_SECOND
    for number in range(WORKERS):
        held[number] = book.sync(Report(str(number), 0, {}, WANT, limits=LIMITS), now=0.0).amounts
    started = time.perf_counter()
    for number in range(WORKERS):
        report = Report(str(number), 1, held[number], WANT, limits=LIMITS, answered=5)
        book.sync(report, now=interval_s * (1 + number / WORKERS))
    return (time.perf_counter() - started) / WORKERS


async def call_s(client: Client) -> float:
    """Return the seconds for one call, several being under way."""
    report = Report("one", 0, {PERMITS: 16.0}, WANT, limits=LIMITS, answered=5)
    seqs = iter(range(CALLS))

    async def call_some() -> None:
        for seq in seqs:
            said = msgspec.to_builtins(msgspec.structs.replace(report, seq=seq))
            await getattr(client.scheduler, SYNC)(
                version=VERSION, worker="tcp://one", incarnation="one", reports={"scope": said}, seq=seq, counts={}
            )

    started = time.perf_counter()
    await asyncio.gather(*[call_some() for _ in range(AT_ONCE)])
    return (time.perf_counter() - started) / CALLS


def main() -> None:
    """Print the medians and what they are of a core."""
    with LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as cluster, Client(cluster) as client:
        client.register_plugin(Coordinator())
        calls = [client.sync(call_s, client) for _ in range(ROUNDS)]
    for name, rounds in (("book", [book_s() for _ in range(ROUNDS)]), ("call", calls)):
        median_s = statistics.median(rounds)
        print(
            f"{name}: {median_s * 1e6:.0f} us for a report, {100 * median_s * WORKERS_A_SECOND:.1f} % of a core at "
            f"{WORKERS_A_SECOND} reports a second ({WORKERS:,} workers, one each "
            f"{WORKERS / WORKERS_A_SECOND:g} s)"
        )


if __name__ == "__main__":
    main()
