"""How fast shares move: 900 rows on one worker, 100 on the other one, one cap of 32 for both.

Run ``python benchmarks/uneven_workers.py``. Ideal is the sum of the latencies by the cap; two reports, a second each,
may pass until the first worker has what the second one does not need any more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import pandas as pd
from distributed import Client, LocalCluster, wait

from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.leases import INTERVAL_S
from curator_llm.testing import FakeServerProcess

MANY, FEW, CAP = 900, 100, 32


def measure(client: Client, server: FakeServerProcess) -> float:
    """Return the seconds that the rows took."""
    many, few = client.scheduler_info()["workers"]
    with tempfile.TemporaryDirectory() as journal:
        endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=CAP)
        stage = QueryModel(endpoint, prompt="{n}", output="a", journal=journal)
        started = time.monotonic()
        wait(
            [
                client.submit(stage, pd.DataFrame({"n": range(MANY)}), workers=[many], pure=False),
                client.submit(stage, pd.DataFrame({"n": range(MANY, MANY + FEW)}), workers=[few], pure=False),
            ]
        )
        return time.monotonic() - started


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-s", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        for latency_s in args.latency_s:
            with FakeServerProcess(latency=latency_s) as server:
                measure(client, server)  # imports, and the engines start
                rounds = [measure(client, server) for _ in range(args.rounds)]
                peak = server.ledger.peak_in_flight
            ideal_s = (MANY + FEW) * latency_s / CAP
            allowed_s = 1.15 * ideal_s + 2 * INTERVAL_S
            took = ", ".join(f"{seconds:.2f}" for seconds in rounds)
            print(
                f"latency {latency_s:g} s: median {statistics.median(rounds):.2f} s ({took}), ideal {ideal_s:.2f} s, "
                f"goal <= {allowed_s:.2f} s; peak at the server {peak} of {CAP}"
            )


if __name__ == "__main__":
    main()
