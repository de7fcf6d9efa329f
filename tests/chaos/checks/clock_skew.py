"""R22: what a server asks to wait by its clock, which is an hour off, while ours jumps back an hour."""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest import mock

from curator_llm.testing import FakeServerProcess, Ledger
from tests.chaos.frames import asking, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R22"
TITLE = "Retry-After as a date by a clock an hour ahead or behind, and a clock of ours that jumps"
IN_TESTS = False

WAIT_S = 2
SKEWS_S = (0, 3600, -3600)


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask one row after the other under each skew: with clocks that agree with themselves, then with one that jumps."""
    for jump_s in (0, -3600, 3600):
        worst_s = 0.0
        for skew_s in SKEWS_S:
            with FakeServerProcess(faults_named=True) as server, _clock_that_jumps(jump_s):
                prompt = f"retry_after_date:{WAIT_S}/{skew_s}@1: by {skew_s} and {jump_s}"
                journal = setting.scratch / f"{jump_s} {skew_s}"
                out = asking(server, max_concurrent_requests=1, journal=journal)(texts([prompt]))
                worst_s = max(worst_s, abs(_waited_s(server.read_ledger()) - WAIT_S))
            yield Figure(f"answered by a clock {skew_s:+} s off", int((out["a__status"] == "ok").sum()), equals=1)
        yield Figure(f"seconds waited wrongly when our clock jumps by {jump_s:+} s", worst_s, at_most=1)


def _clock_that_jumps(jump_s: float) -> mock._patch:
    """Make the clock of the wall jump a second from now; the monotonic one does not."""
    real, jumps_at = time.time, time.monotonic() + 1

    def clock() -> float:
        return real() + (jump_s if time.monotonic() >= jumps_at else 0)

    return mock.patch("time.time", clock)


def _waited_s(ledger: Ledger) -> float:
    first, second = ledger.seen
    return second.at_s - (first.done_s or first.at_s)
