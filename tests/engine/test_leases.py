"""An engine that lives on grants: what it reports, and what it starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.engine.leases import Leases
from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS
from curator_llm.limits.lease_book import Grant, Report
from curator_llm.testing import FakeServer, answer_to

ROWS = 20


class Asking:
    """Rows that are asked in a thread, and the engine that asks."""

    def __init__(self, server: FakeServer, **limits) -> None:
        self._needed = threading.Event()
        self._engine = runtime.engine()
        self.leases: Leases = self._engine.lease(self._needed.set)
        stage = QueryModel(Endpoint("m", base_url=server.base_url, **limits), prompt="{text}", output="a")
        self._thread = threading.Thread(target=lambda: self.out.append(stage(self.frame)))
        self.frame = pd.DataFrame({"text": [f"row {n}" for n in range(ROWS)]})
        self.out: list[pd.DataFrame] = []

    def start(self) -> None:
        self._thread.start()
        assert self._needed.wait(10), "there are new rows"

    def end(self) -> pd.DataFrame:
        self._thread.join()
        return self.out[0]

    def report(self) -> Report:
        (report,) = self._engine.on_loop(lambda: self.leases.report(interval_s=1.0)).result().values()
        return report

    def grant(self, seq: int, sent_at: float | None = None, **grant) -> None:
        at = time.monotonic() if sent_at is None else sent_at
        (scope,) = self._engine.counts()
        self._engine.on_loop(lambda: self.leases.take(seq, {scope: Grant(seq, **grant)}, at)).result()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    runtime.close()
    with FakeServer(latency=0.02) as server:
        yield server
    runtime.close()


def test_nothing_is_sent_without_a_grant_and_all_that_is_wanted_is_reported(server):
    asking = Asking(server, max_concurrent_requests=8, max_requests_per_minute=600, timeout="20s")
    asking.start()
    report = asking.report()
    assert report.held == {PERMITS: 0, REQUESTS: 0}
    assert report.want[PERMITS] == 8
    assert report.want[REQUESTS] == ROWS * 60
    assert report.want[TOKENS] > 0
    assert report.limits == {PERMITS: 8, REQUESTS: 600}
    assert report.longest_s == 20
    assert server.ledger.requests == 0
    asking.grant(report.seq, amounts={PERMITS: 8, REQUESTS: 6e5})
    assert asking.end()["a"].tolist() == [answer_to(text) for text in asking.frame["text"]]


def test_no_more_is_in_flight_than_was_granted(server):
    asking = Asking(server, max_concurrent_requests=8)
    asking.start()
    asking.grant(asking.report().seq, amounts={PERMITS: 3})
    asking.end()
    assert server.ledger.peak_in_flight == 3


def test_only_the_answer_to_the_last_report_counts(server):
    asking = Asking(server)
    asking.start()
    late, last = asking.report().seq, asking.report().seq
    asking.grant(late, amounts={PERMITS: 5})
    assert asking.report().held == {PERMITS: 0}
    assert last == late + 1
    asking.grant(last + 1, amounts={PERMITS: 5})
    asking.end()


def test_a_grant_that_came_too_late_starts_nothing(server):
    asking = Asking(server)
    asking.start()
    asking.grant(asking.report().seq, sent_at=time.monotonic() - 61, amounts={PERMITS: 5})
    assert server.ledger.requests == 0
    asking.grant(asking.report().seq, amounts={PERMITS: 5})
    asking.end()


def test_where_others_are_short_what_is_not_needed_is_given_back_with_the_next_report(server):
    asking = Asking(server, max_concurrent_requests=8)
    asking.start()
    asking.grant(asking.report().seq, amounts={PERMITS: 8}, short=(PERMITS,))
    asking.end()
    assert asking.leases.waits, "others wait for what is idle here"
    report = asking.report()
    assert report.held == {PERMITS: 0}
    assert report.answered == ROWS


def test_where_nobody_is_short_an_idle_engine_keeps_what_it_holds(server):
    asking = Asking(server, max_concurrent_requests=8)
    asking.start()
    asking.grant(asking.report().seq, amounts={PERMITS: 8})
    asking.end()
    assert not asking.leases.waits
    assert asking.report().held == {PERMITS: 8}


def test_an_engine_that_is_about_to_end_wants_nothing_and_starts_nothing(server):
    asking = Asking(server)
    asking.start()
    asking.leases.leaving = True
    report = asking.report()
    assert set(report.want.values()) == {0}
    asking.grant(report.seq, amounts={PERMITS: 5})
    assert asking.report().held == {PERMITS: 0}
    assert server.ledger.requests == 0
    asking.leases.leaving = False
    asking.grant(asking.report().seq, amounts={PERMITS: 5})
    asking.end()


def test_a_pause_that_another_worker_was_asked_for_holds_here(server):
    asking = Asking(server)
    asking.start()
    started = time.monotonic()
    asking.grant(asking.report().seq, amounts={PERMITS: 5}, pause_s=0.5)
    asking.end()
    assert server.ledger.seen[0].at_s >= started + 0.5
