"""Permits and rates, on a clock of our own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.limits.resources import BURST_S, Permits, Rate

_any_machine = settings(deadline=None, database=None, max_examples=100)
_gaps = st.floats(0, 120, allow_subnormal=False)


# --- permits ----------------------------------------------------------------------------------------------------------
def test_permits_run_out_and_come_back() -> None:
    permits = Permits(2)
    for _ in range(2):
        assert permits.wait_s(1, now=0.0) == 0
        permits.take(1)
    assert permits.wait_s(1, now=0.0) == math.inf
    permits.settle(1, used=0)
    assert permits.wait_s(1, now=0.0) == 0
    assert (permits.in_flight, permits.free) == (1, 1)


def test_a_smaller_cap_leaves_what_is_in_flight_and_starts_nothing_until_it_ended() -> None:
    permits = Permits(3)
    for _ in range(3):
        permits.take(1)
    permits.resize(1, now=0.0)
    assert (permits.in_flight, permits.free) == (3, -2)
    permits.settle(1, used=1)
    permits.settle(1, used=1)
    assert permits.wait_s(1, now=0.0) == math.inf
    permits.settle(1, used=1)
    assert permits.wait_s(1, now=0.0) == 0


def test_a_cap_of_zero_starts_nothing() -> None:
    assert Permits(0).wait_s(1, now=0.0) == math.inf


@_any_machine
@given(st.integers(0, 5), st.lists(st.booleans(), max_size=60))
def test_never_more_than_the_cap_is_in_flight_and_all_permits_come_back(cap: int, starts: list[bool]) -> None:
    permits = Permits(cap)
    for start in starts:
        if start and permits.wait_s(1, now=0.0) == 0:
            permits.take(1)
        elif not start and permits.in_flight:
            permits.settle(1, used=1)
        assert 0 <= permits.in_flight <= cap
    while permits.in_flight:
        permits.settle(1, used=1)
    assert permits.free == cap


# --- rates ------------------------------------------------------------------------------------------------------------
def test_a_rate_spreads_a_minute_over_the_minute() -> None:
    rate = Rate(60, now=0.0)
    rate.take(1)
    assert rate.wait_s(1, now=0.0) == pytest.approx(1.0)
    assert rate.wait_s(1, now=0.75) == pytest.approx(0.25)
    assert rate.wait_s(1, now=1.0) == 0


def test_a_rate_gives_a_burst_of_one_second_and_no_more_after_a_long_rest() -> None:
    rate = Rate(600, now=0.0)
    taken = 0
    while rate.wait_s(1, now=3600.0) == 0:
        rate.take(1)
        taken += 1
    assert taken == 600 * BURST_S / 60


def test_a_slow_rate_gives_its_first_request_at_once() -> None:
    rate = Rate(2, now=0.0)
    assert rate.wait_s(1, now=0.0) == 0
    rate.take(1)
    assert rate.wait_s(1, now=0.0) == pytest.approx(30.0)


def test_a_request_larger_than_the_bucket_starts_and_leaves_a_debt() -> None:
    rate = Rate(6000, now=0.0)
    assert rate.wait_s(1000, now=0.0) == 0
    rate.take(1000)
    assert rate.wait_s(1, now=0.0) == pytest.approx(901 / 100)
    assert rate.wait_s(1000, now=10.0) == 0


def test_what_was_reserved_and_not_used_comes_back_up_to_the_burst() -> None:
    rate = Rate(6000, now=0.0)
    rate.take(100)
    rate.settle(100, used=40)
    assert rate.wait_s(60, now=0.0) == 0
    assert rate.wait_s(61, now=0.0) == pytest.approx(0.01)
    rate.settle(1000, used=0)
    assert rate.level == 100


def test_what_was_used_beyond_the_estimate_is_owed() -> None:
    rate = Rate(6000, now=0.0)
    rate.take(50)
    rate.settle(50, used=200)
    assert rate.wait_s(1, now=0.0) == pytest.approx(101 / 100)


def test_a_new_rate_holds_from_now_on() -> None:
    rate = Rate(60, now=0.0)
    rate.take(1)
    rate.resize(600, now=0.5)
    assert rate.wait_s(1, now=0.5) == pytest.approx(0.05)
    rate.resize(60, now=10.0)
    rate.take(1)
    assert rate.wait_s(1, now=10.0) == pytest.approx(1.0)


def test_a_rate_of_zero_gives_nothing_until_it_grows() -> None:
    rate = Rate(0, now=0.0)
    assert rate.wait_s(1, now=1e6) == math.inf
    rate.resize(60, now=1e6)
    assert rate.wait_s(1, now=1e6 + 1) == 0


def test_a_clock_that_goes_back_gives_nothing_twice() -> None:
    rate = Rate(60, now=100.0)
    rate.take(1)
    assert rate.wait_s(1, now=50.0) == pytest.approx(1.0)
    assert rate.wait_s(1, now=100.5) == pytest.approx(0.5)


@_any_machine
@given(st.floats(0.5, 10_000), st.lists(st.tuples(_gaps, st.floats(0, 1)), max_size=60))
def test_never_more_is_taken_than_the_rate_allows_and_one_burst(
    per_minute: float, steps: list[tuple[float, float]]
) -> None:
    rate = Rate(per_minute, now=0.0)
    burst = max(1.0, per_minute * BURST_S / 60)
    now = taken = 0.0
    for gap, share in steps:
        now += gap
        amount = share * burst
        if rate.wait_s(amount, now) == 0:
            rate.take(amount)
            taken += amount
        assert taken <= per_minute / 60 * now + burst + 1e-6


@_any_machine
@given(st.floats(0.5, 10_000), st.lists(st.floats(0.01, 50), min_size=1, max_size=30))
def test_after_the_wait_that_is_named_a_request_starts(per_minute: float, shares: list[float]) -> None:
    rate = Rate(per_minute, now=0.0)
    burst = max(1.0, per_minute * BURST_S / 60)
    now = 0.0
    for share in shares:
        now += rate.wait_s(share * burst, now)
        assert rate.wait_s(share * burst, now) <= 1e-6
        rate.take(share * burst)
    assert now <= sum(shares) * burst * 60 / per_minute + 1e-6
