"""R7: a server with a real quota; every row is answered, and the server asked no more often than it allows."""

from __future__ import annotations

from collections.abc import Iterator

from curator_llm.testing import FakeServer, Ledger, long_tailed
from curator_llm.testing.quota import Bucket
from tests.chaos.frames import asking, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R7"
TITLE = "A quota of 120 requests a minute that the endpoint does not name"
IN_TESTS = False

PER_MINUTE, ROWS = 120, 140
#: A refusal needs a moment to be read; what is sent within it knows nothing of it.
ON_ITS_WAY_S = 0.05


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask for more rows than a minute holds, 16 at a time."""
    latency = long_tailed(0.02, setting.seed, longest_s=0.2)
    with FakeServer(requests_per_minute=PER_MINUTE, latency=latency) as server:
        stage = asking(server, max_concurrent_requests=16, journal=setting.scratch / "journal")
        out = stage(texts(ROWS))
        ledger = server.ledger
    yield Figure("rows answered", int((out["a__status"] == "ok").sum()), equals=ROWS)
    yield Figure("requests", ledger.requests, at_most=154)
    yield Figure("requests that were refused", ledger.by_status.get(429, 0), at_least=1)
    yield Figure("requests before the time the server named", too_early(ledger), equals=0)


def too_early(ledger: Ledger) -> int:
    """Count requests that came after a refusal was read and before its time: the quota's own arithmetic, again."""
    bucket = Bucket(PER_MINUTE, None, ledger.seen[0].at_s)
    early = 0
    for seen in ledger.seen:
        wait_s = bucket.take(1, seen.at_s)
        if seen.http != 429 or seen.done_s is None:
            continue
        read_at_s = seen.done_s + ON_ITS_WAY_S
        early += sum(read_at_s < later.at_s < seen.at_s + wait_s for later in ledger.seen)
    return early
