"""What one line may start, and when."""

from __future__ import annotations

import math

import pytest

from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS, Allowance


def test_a_request_takes_of_what_is_limited() -> None:
    assert Allowance({PERMITS: 1}, now=0.0).cost(500) == {PERMITS: 1}
    everything = Allowance({PERMITS: 1, REQUESTS: 60, TOKENS: 6000}, now=0.0)
    assert everything.cost(500) == {PERMITS: 1, REQUESTS: 1, TOKENS: 500}


def test_the_scarcest_resource_decides_and_nothing_is_taken_of_the_others() -> None:
    allowance = Allowance({PERMITS: 2, REQUESTS: 60}, now=0.0)
    cost = allowance.cost(0)
    assert allowance.take(cost, now=0.0) == 0
    assert allowance.take(cost, now=0.0) == pytest.approx(1.0)
    assert allowance.permits.in_flight == 1
    assert allowance.take(cost, now=1.0) == 0
    assert allowance.take(cost, now=2.0) == math.inf


def test_a_permit_comes_back_and_a_rate_does_not() -> None:
    allowance = Allowance({PERMITS: 1, REQUESTS: 60}, now=0.0)
    cost = allowance.cost(0)
    allowance.take(cost, now=0.0)
    allowance.settle(cost, 10)
    assert allowance.permits.in_flight == 0
    assert allowance.take(cost, now=0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("used", "wait_s"), [(100, 0.0), (0, 0.0), (150, 0.5), (None, 0.0)])
def test_tokens_are_settled_by_what_the_server_counted(used: int | None, wait_s: float) -> None:
    allowance = Allowance({PERMITS: 2, TOKENS: 6000}, now=0.0)
    cost = allowance.cost(100)
    allowance.take(cost, now=0.0)
    allowance.settle(cost, used)
    assert allowance.take(allowance.cost(100), now=1.0) == pytest.approx(wait_s)


def test_without_a_count_the_estimate_stands() -> None:
    allowance = Allowance({PERMITS: 2, TOKENS: 6000}, now=0.0)
    cost = allowance.cost(100)
    allowance.take(cost, now=0.0)
    allowance.settle(cost, None)
    assert allowance.take(cost, now=0.0) == pytest.approx(1.0)


def test_a_pause_holds_everything_back_and_the_longest_one_counts() -> None:
    allowance = Allowance({PERMITS: 1}, now=0.0)
    allowance.pause(until=5.0)
    allowance.pause(until=3.0)
    assert allowance.take(allowance.cost(0), now=1.0) == pytest.approx(4.0)
    assert allowance.permits.in_flight == 0
    assert allowance.take(allowance.cost(0), now=5.0) == 0


def test_a_pause_does_not_hide_that_a_permit_is_missing() -> None:
    allowance = Allowance({PERMITS: 1}, now=0.0)
    allowance.take(allowance.cost(0), now=0.0)
    allowance.pause(until=5.0)
    assert allowance.take(allowance.cost(0), now=0.0) == math.inf


def test_a_grant_changes_what_may_start() -> None:
    allowance = Allowance({PERMITS: 1, REQUESTS: 60}, now=0.0)
    allowance.take(allowance.cost(0), now=0.0)
    allowance.grant({PERMITS: 2, REQUESTS: 6000}, now=0.0)
    assert allowance.permits.cap == 2
    assert allowance.take(allowance.cost(0), now=0.01) == 0


def test_a_resource_that_is_new_in_a_grant_is_taken_by_later_requests_only() -> None:
    allowance = Allowance({PERMITS: 3}, now=0.0)
    before = allowance.cost(0)
    allowance.take(before, now=0.0)
    allowance.grant({PERMITS: 3, REQUESTS: 60}, now=0.0)
    allowance.settle(before, None)
    assert allowance.take(allowance.cost(0), now=0.0) == 0
    assert allowance.take(allowance.cost(0), now=0.0) == pytest.approx(1.0)


def test_a_grant_of_nothing_stops_the_line_until_the_next_one() -> None:
    allowance = Allowance({PERMITS: 1, REQUESTS: 60}, now=0.0)
    allowance.grant({PERMITS: 0, REQUESTS: 0}, now=0.0)
    assert allowance.take(allowance.cost(0), now=1e6) == math.inf
    allowance.grant({PERMITS: 1, REQUESTS: 60}, now=1e6)
    assert allowance.take(allowance.cost(0), now=1e6 + 1) == 0


def in_flight(permits: int) -> Allowance:
    allowance = Allowance({PERMITS: 8}, now=0.0)
    for _ in range(permits):
        allowance.take(allowance.cost(0), now=0.0)
    return allowance


def test_a_server_that_asks_for_a_pause_has_it_at_once() -> None:
    allowance = in_flight(2)
    allowance.throttled(sent_at=0.0, now=1.0, until=9.0, spread=0.0)
    assert allowance.take(allowance.cost(0), now=8.9) > 0
    assert allowance.take(allowance.cost(0), now=9.0) in {0, math.inf}


def test_a_server_that_throttles_without_advice_pauses_the_line_only_once_nothing_passes() -> None:
    allowance = in_flight(2)
    for throttled in range(1, 4):
        allowance.throttled(sent_at=0.0, now=1.0, until=None, spread=1.0)
        assert allowance._paused_until == (2.25 if throttled == 3 else 0.0)  # the two, and the one that ended


def test_after_a_pause_the_server_asked_for_requests_start_one_by_one() -> None:
    allowance = in_flight(1)
    allowance.throttled(sent_at=0.0, now=1.0, until=1.5, spread=0.0)
    allowance.settle(allowance.cost(0), None)
    assert allowance.take(allowance.cost(0), now=1.5) == 0
    allowance.succeeded(sent_at=1.5)
    assert allowance.take(allowance.cost(0), now=1.5) == pytest.approx(0.25)
    assert allowance.held_by == "throttling"


def test_a_server_that_throttles_holds_back_what_its_window_does_not_hold() -> None:
    allowance = Allowance({PERMITS: 8}, now=0.0)
    for _ in range(4):
        allowance.take(allowance.cost(0), now=0.0)
    allowance.window.throttled(allowance.permits.in_flight, sent_at=0.0, now=1.0, cap=8)
    assert allowance.take(allowance.cost(0), now=1.0) == math.inf
    allowance.settle(allowance.cost(0), None)
    assert allowance.take(allowance.cost(0), now=1.0) == math.inf
    allowance.settle(allowance.cost(0), None)
    assert allowance.take(allowance.cost(0), now=1.0) == 0


def test_it_says_what_holds_the_line_back() -> None:
    allowance = Allowance({PERMITS: 1, REQUESTS: 60, TOKENS: 6000}, now=0.0)
    allowance.take(allowance.cost(100), now=0.0)
    allowance.take(allowance.cost(100), now=0.0)
    assert allowance.held_by == PERMITS
    allowance.settle(allowance.cost(100), 1000)
    allowance.take(allowance.cost(100), now=0.0)
    assert allowance.held_by == TOKENS
    allowance.pause(until=100.0)
    allowance.take(allowance.cost(100), now=0.0)
    assert allowance.held_by == "throttling"


def test_nothing_starts_once_a_grant_is_too_old() -> None:
    allowance = Allowance({PERMITS: 1}, now=0.0)
    allowance.expires_at = 60.0
    assert allowance.take(allowance.cost(0), now=60.0) == math.inf
    assert "coordinator" in allowance.held_by
    allowance.expires_at = 120.0
    assert allowance.take(allowance.cost(0), now=60.0) == 0


def test_it_holds_what_is_in_flight_above_a_smaller_share() -> None:
    allowance = Allowance({PERMITS: 2, REQUESTS: 600}, now=0.0)
    for _ in range(2):
        allowance.take(allowance.cost(0), now=0.0)
    allowance.give_back([PERMITS, TOKENS], {PERMITS: 1, REQUESTS: 0, TOKENS: 0}, now=0.0)
    assert allowance.permits.cap == 1
    assert allowance.held == {PERMITS: 2, REQUESTS: 600}


def test_it_tells_what_was_taken_and_what_was_missed_since_the_last_time() -> None:
    allowance = Allowance({PERMITS: 9, REQUESTS: 600, TOKENS: 60}, now=0.0)
    allowance.take(allowance.cost(1), now=0.0)
    allowance.take(allowance.cost(1), now=0.0)
    assert allowance.demand() == ({PERMITS: 1, REQUESTS: 1, TOKENS: 1}, {TOKENS})
    assert allowance.demand() == ({}, set())


def test_it_tells_how_long_a_server_asked_to_wait_and_not_how_long_it_waits_by_itself() -> None:
    allowance = Allowance({PERMITS: 4}, now=0.0)
    allowance.pause(until=9.0)
    assert allowance.pause_asked_s(now=0.0) == 0
    allowance.throttled(sent_at=0.0, now=1.0, until=6.0, spread=0.0)
    assert allowance.pause_asked_s(now=2.0) == 4
    assert (allowance.answered, allowance.throttles) == (0, 1)
