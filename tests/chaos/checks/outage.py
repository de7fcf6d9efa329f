"""R6: the server is away for a while; rows wait, few try meanwhile, and it goes on as before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pandas as pd

from curator_llm import runtime
from curator_llm.testing import FakeServer, Ledger
from tests.chaos.frames import asking, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R6"
TITLE = "The server is away for 15 s: nothing listens there, or it answers nothing but 503"
IN_TESTS = False

ROWS, AWAY_S, LATENCY_S = 3_000, 15.0, 0.15
#: The outage is known once what was under way has failed.
KNOWN_AFTER_S = 1.0


def figures(setting: Setting) -> Iterator[Figure]:
    """Take the server away in the middle of a run, in two ways."""
    for how in ("gone", "503"):
        with FakeServer(latency=LATENCY_S) as server:
            stage = asking(server, journal=setting.scratch / how)
            results: list[pd.DataFrame] = []
            thread = threading.Thread(target=lambda stage=stage, results=results: results.append(stage(texts(ROWS))))
            thread.start()
            server.wait_until(lambda ledger: ledger.by_status.get(200, 0) >= ROWS // 4, timeout_s=30)
            away_at_s = time.monotonic()
            _take_away(server, how)
            time.sleep(KNOWN_AFTER_S)
            before = runtime.snapshot()["sent"]
            time.sleep(AWAY_S - KNOWN_AFTER_S)
            tries = runtime.snapshot()["sent"] - before
            _bring_back(server, how)
            back_at_s = time.monotonic()
            thread.join()
            ledger = server.ledger
        (out,) = results
        yield Figure(f"{how}: rows that are not ok", int((out["a__status"] != "ok").sum()), equals=0)
        yield Figure(f"{how}: tries a second meanwhile", tries / (AWAY_S - KNOWN_AFTER_S), at_most=1.1)
        old = _answers(ledger, away_at_s - 2, away_at_s) / 2
        yield Figure(f"{how}: requests a second before", old)
        yield Figure(f"{how}: seconds until 90 % of that again", _recovered_s(ledger, back_at_s, 0.9 * old), at_most=10)


def _take_away(server: FakeServer, how: str) -> None:
    if how == "gone":
        server.close()
    else:
        server.change(faults=lambda *_: "http:503", latency=0.0)


def _bring_back(server: FakeServer, how: str) -> None:
    if how == "gone":
        server.start()
    else:
        server.change(faults=None, latency=LATENCY_S)


def _answers(ledger: Ledger, since_s: float, until_s: float) -> int:
    return sum(seen.http == 200 and since_s <= (seen.done_s or 0) < until_s for seen in ledger.seen)


def _recovered_s(ledger: Ledger, back_at_s: float, enough: float) -> float:
    """Return the end of the first second with enough answers, seconds after the server was back."""
    ends = (1 + tenth / 10 for tenth in range(400))
    return next((end for end in ends if _answers(ledger, back_at_s + end - 1, back_at_s + end) >= enough), 1e9)
