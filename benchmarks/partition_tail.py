"""How full the server is kept while rows remain: 32 partitions of 24 rows, long-tailed latency, one worker, cap 16.

Run ``python benchmarks/partition_tail.py``. The figure is the server's: requests it holds, weighted by time, from the
second request (the first goes alone) to the last one sent, as a share of the cap.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.plugin import PLUGIN_NAME
from curator_llm.testing import FakeServerProcess

PARTITIONS, ROWS, CAP = 32, 24, 16


def share_in_flight(median_s: float, round_: int) -> tuple[float, int, int]:
    """Return the share of the cap that was in flight, the peak at the server and the most partitions open."""
    frame = dd.from_pandas(pd.DataFrame({"n": range(PARTITIONS * ROWS)}), npartitions=PARTITIONS)
    with (
        tempfile.TemporaryDirectory() as journal,
        FakeServerProcess(latency=median_s, long_tail=True) as server,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=CAP)
        QueryModel(endpoint, prompt=f"round {round_} row {{n}}", output="a", journal=journal)(frame).compute()
        ledger = server.read_ledger()
        (opened,) = client.run(lambda dask_worker: dask_worker.plugins[PLUGIN_NAME].open_partitions.peak).values()
        share = ledger.mean_in_flight(ledger.seen[1].at_s, ledger.seen[-1].at_s) / CAP
        return share, ledger.peak_in_flight, opened


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--median-s", type=float, default=0.035)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    runs = [share_in_flight(args.median_s, round_) for round_ in range(args.rounds)]
    shares = ", ".join(f"{share:.3f}" for share, _, _ in runs)
    print(
        f"share of the cap in flight at the server: median {statistics.median(run[0] for run in runs):.3f} ({shares})"
    )
    print(
        f"peak at the server {max(run[1] for run in runs)} of {CAP}, "
        f"partitions open at most {max(run[2] for run in runs)}"
    )


if __name__ == "__main__":
    main()
