"""What a line may start while its server throttles, fails or is away, and how it comes back."""

from __future__ import annotations

import math

import pytest

from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS, Allowance
from curator_llm.limits.lease_book import LeaseBook, Report
from curator_llm.limits.window import Window


def line(cap: int, in_flight: int) -> Allowance:
    """Return a line with so many in flight, one of which has just ended."""
    allowance = Allowance({PERMITS: cap}, now=0.0)
    for _ in range(in_flight):
        allowance.take(allowance.cost(0), now=0.0)
    allowance.settle(allowance.cost(0), None)
    return allowance


def fail(allowance: Allowance, times: int, *, now: float = 1.0, spread: float = 0.0) -> None:
    for _ in range(times):
        allowance.failed(sent_at=0.0, now=now, spread=spread)


# --- an outage --------------------------------------------------------------------------------------------------------
def test_in_an_outage_the_line_says_so_and_starts_nothing_while_one_is_in_flight() -> None:
    allowance = line(cap=8, in_flight=2)
    fail(allowance, 5)
    assert allowance.filled_by == "outage"
    assert allowance.take(allowance.cost(0), now=100.0) == math.inf
    assert allowance.held_by == "outage"


@pytest.mark.parametrize(("spread", "rest_s"), [(0.0, 1.0), (0.5, 1.125), (1.0, 1.25)])
def test_an_outage_rests_for_a_second_and_up_to_a_quarter_more_so_that_workers_do_not_try_in_step(
    spread: float, rest_s: float
) -> None:
    allowance = line(cap=8, in_flight=1)
    fail(allowance, 5, now=10.0, spread=spread)
    assert allowance.take(allowance.cost(0), now=10.0) == pytest.approx(rest_s)


def test_a_failure_that_is_no_outage_holds_nothing_back() -> None:
    allowance = line(cap=8, in_flight=1)
    fail(allowance, 4, now=10.0, spread=1.0)
    assert allowance.take(allowance.cost(0), now=10.0) == 0


def test_the_request_that_failed_counts_as_in_flight() -> None:
    allowance = line(cap=20, in_flight=20)
    fail(allowance, 9)
    assert allowance.window.resting_since is None
    fail(allowance, 1)
    assert allowance.window.resting_since == 1.0


def test_half_of_an_odd_number_in_flight_is_rounded_down() -> None:
    window = Window()
    assert [window.failed(13, 0.0, 1.0, cap=64) for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_answers_open_the_line_again_up_to_its_cap() -> None:
    allowance = line(cap=8, in_flight=1)
    fail(allowance, 5)
    sizes = []
    for _ in range(7):
        allowance.succeeded(sent_at=0.0)
        sizes.append(allowance.window.size)
    assert sizes == [2, 3, 4, 5, 6, 7, math.inf]


def test_an_answer_and_a_throttled_request_begin_the_row_of_failures_anew() -> None:
    window = Window()
    rests = []
    for come_back in (window.succeeded, lambda cap: window.throttled(1, 0.0, 1.0, cap=cap)) * 3:
        rests += [window.failed(8, 2.0, 3.0, cap=64) for _ in range(4)]
        come_back(64)
    assert rests == [0] * 24
    assert [window.failed(8, 2.0, 3.0, cap=64) for _ in range(5)] == [0, 0, 0, 0, 1]


# --- throttling -------------------------------------------------------------------------------------------------------
def test_the_request_that_was_throttled_counts_as_in_flight() -> None:
    allowance = line(cap=8, in_flight=8)
    allowance.throttled(sent_at=0.0, now=1.0, until=None, spread=0.0)
    assert allowance.window.size == 6
    assert allowance.filled_by == "throttling"


def test_a_window_that_was_not_full_when_it_was_cut_opens_by_one_per_answer() -> None:
    allowance = line(cap=64, in_flight=8)
    allowance.throttled(sent_at=0.0, now=1.0, until=None, spread=0.0)
    for _ in range(4):
        allowance.succeeded(sent_at=0.0)
    assert allowance.window.size == 10


def test_a_full_window_opens_by_one_per_window() -> None:
    allowance = line(cap=8, in_flight=8)
    allowance.throttled(sent_at=0.0, now=1.0, until=None, spread=0.0)
    allowance.succeeded(sent_at=0.0)
    assert allowance.window.size == pytest.approx(6 + 1 / 6)


# --- limits that come and go ------------------------------------------------------------------------------------------
def test_what_is_no_limit_any_more_does_not_keep_the_others_from_being_settled() -> None:
    allowance = Allowance({PERMITS: 2, REQUESTS: 60, TOKENS: 6000}, now=0.0)
    cost = allowance.cost(100)
    allowance.take(cost, now=0.0)
    allowance.grant({PERMITS: 2, TOKENS: 6000}, now=0.0)
    allowance.settle(cost, 0)
    assert allowance.take(allowance.cost(100), now=0.0) == 0


def test_of_a_limit_that_is_new_nobody_holds_anything() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(Report("a", 0, {}, {PERMITS: 8}))
    book.resize({PERMITS: 8, REQUESTS: 100})
    assert (book.held(REQUESTS), book.held(PERMITS)) == (0, 8)


def test_the_smallest_wish_is_met_first_whoever_has_it() -> None:
    book = LeaseBook({PERMITS: 10})
    for seq in range(3):
        grants = [book.sync(Report(name, seq, {}, {PERMITS: want})) for name, want in (("a", 99), ("b", 99), ("c", 1))]
    assert [grant.amounts[PERMITS] for grant in grants if grant] == [5, 4, 1]
