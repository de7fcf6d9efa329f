"""R12: a budget holds over workers, faults, kills and a restart, and is used."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import dask
import dask.dataframe as dd
from distributed import Client, LocalCluster

from curator_llm import Budget, Endpoint, QueryModel
from curator_llm.testing import FakeServerProcess
from tests.chaos.frames import texts
from tests.chaos.scorecard import Figure, Setting

ID = "R12"
TITLE = "A budget for 1,000 of 3,000 rows, 2 workers, one attempt in ten fails, 3 kills and a restart"
IN_TESTS = False

#: US dollars for a million input and output tokens: a reply costs about 50 millionths of a dollar.
PRICE = (0.1, 10.0)
BUDGET_USD = 0.05
ROWS = 3_000
KILLS = 3


def figures(setting: Setting) -> Iterator[Figure]:
    """Run until the budget is reached, with kills on the way; then run again."""
    journal = str(setting.scratch / "journal")
    kinds = ["http:500", "http:502", "retry_after_ms:20", "reset"]
    with FakeServerProcess(fault=kinds, fault_rate=0.1, seed=setting.seed, latency=0.02) as server:

        def run(kills: int) -> dict[str, int]:
            endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=16, price_usd=PRICE)
            stage = QueryModel(
                endpoint,
                prompt="{text}",
                output="a",
                generation={"max_tokens": 6},
                budget=Budget(max_cost_usd=BUDGET_USD, name="all of it"),
                journal=journal,
            )
            frame = stage(dd.from_pandas(texts(ROWS), npartitions=60))
            with (
                dask.config.set({"distributed.scheduler.allowed-failures": 10}),
                LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
                Client(cluster) as client,
            ):
                future = client.compute(frame["a__status"].value_counts())
                for number in range(kills):
                    mark = server.ledger.requests + 150
                    server.wait_until(lambda ledger, mark=mark: ledger.requests >= mark, timeout_s=60)
                    nannies = list(cluster.workers.values())
                    os.kill(nannies[number % 2].process.process.pid, signal.SIGKILL)
                counts = future.result(timeout=240)
            return counts.to_dict()

        first = run(KILLS)
        yield Figure("rows that have no status after the kills", ROWS - sum(first.values()), equals=0)
        yield Figure("US dollars the server charged until then", charged(server))
        second = run(0)
        yield Figure("rows that have no status after the restart", ROWS - sum(second.values()), equals=0)
        yield Figure(
            "share of the budget that the server charged", charged(server) / BUDGET_USD, at_most=1, at_least=0.97
        )


def charged(server: FakeServerProcess) -> float:
    """Return what the server's ledger says in US dollars."""
    ledger = server.ledger
    return (ledger.input_tokens * PRICE[0] + ledger.output_tokens * PRICE[1]) / 1e6
