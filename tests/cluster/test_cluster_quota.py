"""A quota of requests and tokens, and workers that come, leave and die: three minutes, for `make test-minutes`."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import FakeServerProcess
from curator_llm.testing.ledger import Seen

#: A minute's. Rows of 20 to 100 words and their replies take 77 tokens, so both are nearly used up at once.
REQUESTS, TOKENS = 1_200, 90_000
REPLY_TOKENS = 16
ROWS = 3_500
WINDOW_S = 10


def rows() -> pd.DataFrame:
    draw = random.Random(1)
    return pd.DataFrame({"text": [f"{'word ' * draw.randint(20, 100)}{n}" for n in range(ROWS)]})


def shares_used(seen: list[Seen], started_s: float) -> list[float]:
    """How much of the quota that binds was used, for each ten seconds after the first minute."""
    requests, tokens = Counter(), Counter()
    for one in seen:
        window = int((one.at_s - started_s) // WINDOW_S)
        requests[window] += one.http == 200
        tokens[window] += (one.http == 200) * (len(one.prompt.split()) + REPLY_TOKENS)
    windows = range(60 // WINDOW_S, max(requests))  # the last one is not whole
    per_window = WINDOW_S / 60
    return [max(requests[n] / REQUESTS, tokens[n] / TOKENS) / per_window for n in windows]


@pytest.mark.minutes
@pytest.mark.timeout(400)
def test_a_quota_is_used_and_not_exceeded_while_workers_join_retire_and_die(tmp_path, capsys):
    with (
        FakeServerProcess(
            answer=" ".join(["word"] * REPLY_TOKENS),
            latency=0.3,
            requests_per_minute=REQUESTS,
            tokens_per_minute=TOKENS,
            burst=REQUESTS / 20,
        ) as server,
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        endpoint = Endpoint(
            "m", base_url=server.base_url, max_requests_per_minute=REQUESTS, max_tokens_per_minute=TOKENS
        )
        stage = QueryModel(
            endpoint, prompt="{text}", output="a", generation={"max_tokens": REPLY_TOKENS}, journal=str(tmp_path)
        )
        future = client.compute(stage(dd.from_pandas(rows(), npartitions=70)))
        server.wait_until(lambda ledger: ledger.requests >= 1_200, timeout_s=120)
        cluster.scale(6)
        server.wait_until(lambda ledger: ledger.requests >= 1_600, timeout_s=120)
        client.retire_workers([next(iter(client.scheduler_info()["workers"]))])
        server.wait_until(lambda ledger: ledger.requests >= 2_000, timeout_s=120)
        os.kill(next(nanny.pid for nanny in cluster.workers.values() if nanny.pid), signal.SIGKILL)
        out = future.result()
        seen = list(server.read_ledger().seen)

    started_s = seen[0].at_s
    late = [one for one in seen if one.http == 429 and one.at_s > started_s + 60]
    used = shares_used(seen, started_s)
    with capsys.disabled():
        print(
            f"\n{len(seen)} requests in {seen[-1].at_s - started_s:.0f} s; 429: {sum(one.http == 429 for one in seen)},"
            f" after the first minute {len(late)}; used of the quota that binds, each {WINDOW_S} s: "
            + " ".join(f"{share:.2f}" for share in used)
        )
    assert out["a__status"].eq("ok").all()
    assert late == []
    assert sum(used) / len(used) >= 0.95
