"""R15: one partition asked on two workers at once, as after a steal or a lost worker, is one output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from distributed import Client, wait

from curator_llm import QueryModel
from curator_llm.testing import FakeServerProcess
from tests.chaos.clusters import asking, cluster_of_processes, partitioned, wrong_rows
from tests.chaos.frames import texts
from tests.chaos.scorecard import Figure, Setting

ID = "R15"
TITLE = "One partition on two workers at once, and stealing"
IN_TESTS = False

ROWS, PERMITS = 400, 8
WORKERS = 2
LATENCY_S = 0.05


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask the same rows on both workers: together, then one a moment later; then let workers steal."""
    with FakeServerProcess(latency=LATENCY_S) as server, cluster_of_processes(WORKERS) as (_, client):
        for name, sent in (("at once", 0), ("a moment later", ROWS // 4)):
            server.reset()
            stage = asking(server.base_url, setting.scratch / name, WORKERS * PERMITS)
            frames = _on_both(client, server, stage, sent)
            yield Figure(f"{name}: rows that are wrong", sum(wrong_rows(frame, ROWS) for frame in frames), equals=0)
            yield Figure(f"{name}: values that differ", int((frames[0] != frames[1]).any(axis=1).sum()), equals=0)
            server.wait_until(lambda ledger: ledger.in_flight == 0)
            paid = server.ledger.requests
            # the second one finds what is kept when it begins: all that was sent, but for what is in flight
            unkept = min(ROWS, ROWS - sent + PERMITS)
            yield Figure(f"{name}: paid twice", paid - ROWS, at_most=unkept)
            again = stage(partitioned(ROWS, 3)).compute()
            yield Figure(f"{name}: values of a rerun that differ", wrong_rows(again, ROWS), equals=0)
            yield Figure(f"{name}: requests of a rerun", server.ledger.requests - paid, equals=0)

        server.reset()
        first, *_ = client.scheduler_info(n_workers=-1)["workers"]
        ddf = client.persist(partitioned(ROWS, 40), workers=[first])
        wait(ddf)
        stage = asking(server.base_url, setting.scratch / "steal", WORKERS * PERMITS)
        out = stage(ddf).compute()
        asked = client.run(_has_asked, stage.spec.journal_directory())
        yield Figure("stealing: workers that asked", sum(asked.values()), equals=WORKERS)
        yield Figure("stealing: rows that are wrong", wrong_rows(out, ROWS), equals=0)
        yield Figure("stealing: paid twice", server.ledger.requests - ROWS, equals=0)


def _has_asked(journal: Path) -> bool:
    """Tell whether this worker wrote into a journal."""
    return any(f"-{os.getpid()}-" in path.name for path in (journal / "seg").iterdir())


def _on_both(client: Client, server: FakeServerProcess, stage: QueryModel, sent: int) -> list[pd.DataFrame]:
    """Ask on one worker, and when so many requests are sent, on the other one, too."""
    first, second = client.scheduler_info(n_workers=-1)["workers"]
    futures = [client.submit(stage, texts(ROWS), workers=[first], pure=False)]
    server.wait_until(lambda ledger: ledger.requests >= sent, timeout_s=60)
    futures.append(client.submit(stage, texts(ROWS), workers=[second], pure=False))
    return client.gather(futures)
