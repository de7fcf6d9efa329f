"""Rows a second and CPU per row of a stage on pandas, against the bare client, side by side.

Run ``python benchmarks/rows_per_second.py``. A fake server runs in a process of its own; the two cases alternate, and
medians over the rounds and their ratio are printed. Machines are noisy: read the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import pandas as pd
import uvloop
from pyreqwest.client import ClientBuilder

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import FakeServerProcess
from curator_llm.wire.exchange import Request


def cpu_s() -> float:
    """Return the CPU seconds this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(run: Callable[[], None], rows: int) -> tuple[float, float]:
    """Return rows a second and CPU microseconds a row."""
    started, used = time.perf_counter(), cpu_s()
    run()
    return rows / (time.perf_counter() - started), (cpu_s() - used) / rows * 1e6


def ask_bare(base_url: str, bodies: list[bytes], in_flight: int) -> None:
    """Send the same bodies with nothing around the client."""

    async def main() -> None:
        client = ClientBuilder().no_proxy().default_headers({"content-type": "application/json"}).build()
        left = iter(bodies)

        async def lane() -> None:
            for body in left:
                response = await client.post(f"{base_url}/chat/completions").body_bytes(body).build().send()
                (await response.bytes()).to_bytes()

        await asyncio.gather(*[lane() for _ in range(in_flight)])

    uvloop.run(main())


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {"bare": [], "stage": []}
    with FakeServerProcess() as server, tempfile.TemporaryDirectory() as journal:
        endpoint = Endpoint("bench", base_url=server.base_url, max_concurrent_requests=args.in_flight)
        frame = pd.DataFrame({"n": range(args.rows)})
        for round_ in range(args.rounds + 1):
            stage = QueryModel(endpoint, prompt=f"round {round_} row {{n}}", output="a", journal=journal)
            requests = stage.spec.operation.requests({"n": list(frame.n)}, len(frame))
            bodies = [request.body for request in requests if isinstance(request, Request)]
            bare = measure(lambda bodies=bodies: ask_bare(server.base_url, bodies, args.in_flight), args.rows)
            with contextlib.redirect_stderr(io.StringIO()):
                ours = measure(lambda stage=stage: stage(frame), args.rows)
            if round_:  # the first one warms up
                results["bare"].append(bare)
                results["stage"].append(ours)
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in results.items()
    }
    for name, (speed, cost) in medians.items():
        print(f"{name:6s} {speed:8,.0f} rows/s {cost:8.1f} us CPU/row")
    print(
        f"ratio of CPU, stage to bare: {medians['stage'][1] / medians['bare'][1]:.2f} ({args.rounds} rounds, medians)"
    )


if __name__ == "__main__":
    main()
