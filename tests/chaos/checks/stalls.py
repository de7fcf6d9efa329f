"""R23: this process stands still for seconds; that is no server's fault, and no reply is paid for again."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pandas as pd

from curator_llm import runtime
from curator_llm.testing import FakeServerProcess
from tests.chaos.frames import asking, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R23"
TITLE = "The interpreter is held for 5 s, and the process stopped for 8 s, in the middle of a run"
IN_TESTS = False

ROWS, HELD_S, STOPPED_S = 160, 5, 8
#: Long after a stall, as usual, and shorter than one.
TIMEOUTS_S = (60, 3)


def figures(setting: Setting) -> Iterator[Figure]:
    """Stand still in each way, with deadlines that a stall outlasts and with some that it does not."""
    for name, stand_still in (("held", _hold), ("stopped", _stop)):
        for timeout_s in TIMEOUTS_S:
            yield from _one(setting, f"{name}, timeout {timeout_s} s", timeout_s, stand_still)


def _one(setting: Setting, name: str, timeout_s: float, stand_still: Callable[[], None]) -> Iterator[Figure]:
    with FakeServerProcess(latency=1.0) as server:
        stage = asking(server, journal=setting.scratch / name, timeout=timeout_s)
        before = runtime.snapshot()
        results: list[pd.DataFrame] = []
        thread = threading.Thread(target=lambda: results.append(stage(texts(ROWS))))
        thread.start()
        server.wait_until(lambda ledger: ledger.requests >= ROWS // 3, timeout_s=30)
        stand_still()
        thread.join()
        paid = server.ledger.requests
    (out,) = results
    after = runtime.snapshot()
    counts = {key: count - before.get(key, 0) for key, count in after.items()}
    yield Figure(f"{name}: rows that are not ok", int((out["a__status"] != "ok").sum()), equals=0)
    yield Figure(f"{name}: attempts more than one a row", int(out["a__attempts"].sum()) - ROWS, equals=0)
    yield Figure(f"{name}: timeouts", counts.get("retried timeout", 0), equals=0)
    yield Figure(f"{name}: times an outage held it back", counts.get("held by outage", 0), equals=0)
    # What runs into its deadline while nobody reads is lost, and asked for again: none where the deadline is longer.
    most = {"equals": 0} if timeout_s > STOPPED_S else {"at_most": 32}
    yield Figure(f"{name}: paid twice", paid - ROWS, **most)


def _hold() -> None:
    ctypes.PyDLL(None).sleep(HELD_S)  # a call of C that does not let others run


def _stop() -> None:
    """Have another process stop this one, and wake it up again."""
    pid = os.getpid()
    stop, go_on = f"os.kill({pid}, {signal.SIGSTOP:d})", f"os.kill({pid}, {signal.SIGCONT:d})"
    code = f"import os, time; {stop}; time.sleep({STOPPED_S}); {go_on}"
    subprocess.run([sys.executable, "-c", code], check=True)
