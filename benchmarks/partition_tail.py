"""How full the cap is kept while rows remain: 32 partitions of 24 rows, long-tailed latency, one worker, cap 16.

Run ``python benchmarks/partition_tail.py``. Two figures, both as a share of the cap: permits in use while rows are left
to send, looked at every 2 ms; and requests the server holds, weighted by time, from the second request (the first goes
alone) to the last one sent. The second is lower by the time between a reply and the next request.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
from collections.abc import Iterator

import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.cluster.plugin import PLUGIN_NAME
from curator_llm.testing import FakeServerProcess

PARTITIONS, ROWS, CAP = 32, 24, 16


@contextlib.contextmanager
def permits_in_use() -> Iterator[list[float]]:
    """Look at the engine every 2 ms while rows are left to send; the list fills with the permits in use."""
    looks: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            counts = runtime.snapshot()
            if counts.get("done") and counts["sent"] < PARTITIONS * ROWS:
                looks.append(counts["in_flight"])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        ended.set()
        thread.join()


def measure(median_s: float, round_: int) -> tuple[float, float, int, int]:
    """Return the share of permits in use, that of requests at the server, its peak, and the most partitions open."""
    frame = dd.from_pandas(pd.DataFrame({"n": range(PARTITIONS * ROWS)}), npartitions=PARTITIONS)
    with (
        tempfile.TemporaryDirectory() as journal,
        FakeServerProcess(latency=median_s, long_tail=True) as server,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=CAP)
        stage = QueryModel(endpoint, prompt=f"round {round_} row {{n}}", output="a", journal=journal)
        runtime.close()  # the engine of the round before would be counted, too
        with permits_in_use() as looks:
            stage(frame).compute()
        ledger = server.read_ledger()
        (opened,) = client.run(lambda dask_worker: dask_worker.plugins[PLUGIN_NAME].open_partitions.peak).values()
        held = ledger.mean_in_flight(ledger.seen[1].at_s, ledger.seen[-1].at_s) / CAP
        return statistics.mean(looks) / CAP, held, ledger.peak_in_flight, opened


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--median-s", type=float, default=0.035)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    used, held, peaks, opened = zip(*(measure(args.median_s, n) for n in range(args.rounds)), strict=True)
    for name, shares in (("permits in use while rows are left to send", used), ("requests at the server", held)):
        rounds = ", ".join(f"{share:.3f}" for share in shares)
        print(f"{name}: median {statistics.median(shares):.3f} of the cap ({rounds})")
    print(f"peak at the server {max(peaks)} of {CAP}, partitions open at most {max(opened)}")


if __name__ == "__main__":
    main()
