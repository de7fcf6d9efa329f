"""R2: three attempts in ten fail, and no row does."""

from __future__ import annotations

from collections.abc import Iterator

from curator_llm.testing import FakeServer, seeded_faults
from tests.chaos.frames import asking, texts
from tests.chaos.invariants import assert_run_invariants
from tests.chaos.scorecard import Figure, Setting

ID = "R2"
TITLE = "Three attempts in ten fail, in twelve ways"
IN_TESTS = True

KINDS = [
    "retry_after_ms:20", "rate_limited", "http:500", "http:502", "http:504", "http:408", "http:409", "http:425",
    "bad_gateway", "reset", "reset_mid_body", "short_body",
]  # fmt: skip


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask for all rows once, then again."""
    rows = setting.size(small=300, full=2_000)
    frame = texts(rows)
    spared_after = 2 if setting.small else None  # what fails thrice waits long for its fourth attempt
    with FakeServer(faults=seeded_faults(KINDS, 0.3, setting.seed, attempts=spared_after)) as server:
        stage = asking(server)
        out = stage(frame)
        yield Figure("rows that are not ok", int((out["a__status"] != "ok").sum()), equals=0)
        yield Figure("requests per row", server.ledger.requests / rows, at_most=1.5)
        assert_run_invariants(frame, out, stage, server)
