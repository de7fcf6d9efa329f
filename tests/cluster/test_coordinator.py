"""The coordinator by itself: who is in its books, and who is not any more."""

from __future__ import annotations

import asyncio
import types

import msgspec
import pytest

from curator_llm.cluster.coordinator import VERSION, Coordinator
from curator_llm.limits.allowance import PERMITS
from curator_llm.limits.lease_book import Report


@pytest.fixture
def scheduler() -> types.SimpleNamespace:
    workers = {f"tcp://{name}": types.SimpleNamespace(nanny=f"tcp://nanny-{name}") for name in "ab"}
    return types.SimpleNamespace(workers=workers, handlers={})


@pytest.fixture
def coordinator(scheduler) -> Coordinator:
    coordinator = Coordinator()
    asyncio.run(coordinator.start(scheduler))
    return coordinator


def sync(coordinator: Coordinator, worker: str, incarnation: str, seq: int = 0, version: int = VERSION):
    report = Report(incarnation, seq, {}, {PERMITS: 100}, limits={PERMITS: 8})
    return coordinator.sync(
        version=version,
        worker=f"tcp://{worker}",
        incarnation=incarnation,
        reports={"scope": msgspec.to_builtins(report)},
        seq=seq,
        counts={},
    )


def members(coordinator: Coordinator) -> int:
    return sum(len(book.members) for book in coordinator._books.values())


def test_a_worker_of_another_version_gets_no_grant_from_which_it_knows(coordinator):
    assert sync(coordinator, "a", "one", version=VERSION + 1) is None
    assert members(coordinator) == 0


def test_a_report_that_comes_after_the_goodbye_brings_nobody_back(coordinator):
    assert sync(coordinator, "a", "one")["grants"]["scope"]["amounts"] == {PERMITS: 4}
    coordinator.leave("one")
    assert sync(coordinator, "a", "one", seq=1)["grants"] == {}
    assert members(coordinator) == 0


def test_a_worker_whose_engine_starts_anew_has_one_place_in_the_books(coordinator):
    sync(coordinator, "a", "one")
    sync(coordinator, "a", "two")
    assert members(coordinator) == 1


def test_a_removed_worker_keeps_its_share_until_its_nanny_has_another_process(coordinator, scheduler):
    sync(coordinator, "a", "one")
    nanny = scheduler.workers.pop("tcp://a").nanny
    coordinator.remove_worker(scheduler, "tcp://a")
    assert members(coordinator) == 1
    assert sync(coordinator, "a", "one", seq=1) is not None, "it is at work still"
    assert members(coordinator) == 1
    scheduler.workers["tcp://c"] = types.SimpleNamespace(nanny=nanny)
    coordinator.add_worker(scheduler, "tcp://c")
    assert members(coordinator) == 0
