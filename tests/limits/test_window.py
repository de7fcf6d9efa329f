"""The window: how many requests a throttling server seems to bear."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.limits.window import Window

_any_machine = settings(deadline=None, database=None, max_examples=100)


def test_it_is_open_until_a_server_throttles() -> None:
    window = Window()
    window.succeeded(cap=1_000_000)
    assert window.size == math.inf


def test_a_throttled_request_cuts_it_to_three_quarters_of_what_was_in_flight() -> None:
    window = Window()
    window.throttled(in_flight=100, sent_at=0.0, now=1.0, cap=100)
    assert window.size == 75


def test_nothing_passes_once_as_many_in_a_row_are_throttled_as_are_in_flight() -> None:
    window = Window()
    rests = [window.throttled(in_flight=4, sent_at=0.0, now=1.0, cap=4) for _ in range(6)]
    assert (rests, window.size, window.resting_since) == ([0, 0, 0, 1, 0, 0], 1, None)
    window.succeeded(cap=4)
    assert window.throttled(in_flight=2, sent_at=2.0, now=3.0, cap=4) == 0


def test_while_nothing_passes_tries_are_a_second_apart_then_two_then_four_then_five() -> None:
    window = Window()
    rests = [window.throttled(in_flight=1, sent_at=now - 0.5, now=now, cap=4) for now in (1.0, 11.0, 21.0, 31.0, 41.0)]
    assert rests == [1, 2, 4, 5, 5]


def test_a_request_that_is_alone_and_throttled_shows_that_nothing_passes() -> None:
    assert Window().throttled(in_flight=1, sent_at=0.0, now=1.0, cap=4) == 1


def test_once_something_passes_again_it_doubles_to_where_it_stood() -> None:
    window = Window()
    for in_flight in range(32, 0, -1):
        window.throttled(in_flight, sent_at=0.0, now=1.0, cap=32)
    assert window.size == 1
    for _ in range(31):
        window.succeeded(cap=32)
    assert window.size == math.inf


def test_a_burst_cuts_once() -> None:
    window = Window()
    for in_flight in range(100, 50, -1):
        window.throttled(in_flight, sent_at=0.0, now=1.0, cap=100)
    assert window.size == 75


def test_a_request_that_was_sent_after_the_cut_cuts_again() -> None:
    window = Window()
    window.throttled(in_flight=100, sent_at=0.0, now=1.0, cap=100)
    window.throttled(in_flight=75, sent_at=1.5, now=2.0, cap=75)
    assert window.size == 56.25


def test_good_replies_open_it_by_one_per_window() -> None:
    window = Window()
    window.throttled(in_flight=100, sent_at=0.0, now=1.0, cap=100)
    for _ in range(75):
        window.succeeded(cap=1_000_000)
    assert 75.9 < window.size <= 76


def fail(window: Window, times: int, *, sent_at: float = 0.0, now: float = 1.0, in_flight: int = 8) -> list[float]:
    return [window.failed(in_flight, sent_at, now, cap=64) for _ in range(times)]


def test_five_failures_in_a_row_are_an_outage_and_one_request_at_a_time_tries() -> None:
    window = Window()
    assert fail(window, 5) == [0, 0, 0, 0, 1]
    assert (window.size, window.resting_since) == (1, 1.0)


def test_with_many_in_flight_half_of_them_fail_in_a_row_before_it_is_an_outage() -> None:
    window = Window()
    assert sum(fail(window, 31, in_flight=64)) == 0
    assert fail(window, 1, in_flight=64) == [1]


def test_an_answer_in_between_makes_it_no_outage() -> None:
    window = Window()
    for _ in range(20):
        fail(window, 4)
        window.succeeded(cap=64)
    assert window.resting_since is None


def test_what_was_under_way_when_the_outage_began_prolongs_nothing() -> None:
    window = Window()
    fail(window, 5)
    assert fail(window, 59) == [0] * 59
    assert fail(window, 1, sent_at=2.0, now=2.0) == [2]


def test_tries_are_a_second_apart_then_two_then_four_then_five() -> None:
    window = Window()
    rests, now = fail(window, 5), 1.0
    for _ in range(5):
        now += 10
        rests += fail(window, 1, sent_at=now - 1, now=now)
    assert rests[4:] == [1, 2, 4, 5, 5, 5]


def test_after_an_outage_it_doubles_to_where_it_was_within_a_few_round_trips() -> None:
    window = Window()
    fail(window, 5)
    rounds = 0
    while window.size < math.inf:
        rounds += 1
        for _ in range(int(window.size)):
            window.succeeded(cap=64)
    assert rounds == 6  # 1, 2, 4, ... 64


def test_after_an_outage_it_does_not_double_beyond_what_a_throttling_server_bore() -> None:
    window = Window()
    window.throttled(in_flight=64, sent_at=0.0, now=1.0, cap=64)
    fail(window, 5, sent_at=2.0, now=3.0)
    for _ in range(47):
        window.succeeded(cap=64)
    assert window.size == 48
    window.succeeded(cap=64)
    assert window.size < 49


def test_a_server_that_throttles_is_there() -> None:
    window = Window()
    fail(window, 5)
    window.throttled(in_flight=1, sent_at=2.0, now=3.0, cap=64)
    assert (window.size, window.resting_since) == (1, None)


def test_a_server_that_fails_more_than_it_answers_is_cut_and_one_that_fails_less_is_not() -> None:
    worse, better = Window(), Window()
    now = 0.0
    for _ in range(200):
        for window, failures in ((worse, 3), (better, 2)):
            now += 1
            fail(window, failures, sent_at=now - 0.5, now=now)
            window.succeeded(cap=64)
            window.succeeded(cap=64)
    assert worse.size < 48
    assert better.size == math.inf


@_any_machine
@given(st.lists(st.tuples(st.sampled_from("gtf"), st.integers(1, 300), st.floats(0, 5)), max_size=200))
def test_it_always_lets_one_request_through(steps: list[tuple[str, int, float]]) -> None:
    window = Window()
    now = 0.0
    for kind, in_flight, gap in steps:
        sent_at, now = now, now + gap
        if kind == "g":
            window.succeeded(cap=1_000_000)
        elif kind == "t":
            window.throttled(in_flight, sent_at, now, cap=300)
        else:
            assert 0 <= window.failed(in_flight, sent_at, now, cap=300) <= 5
        assert window.size >= 1
        assert window.resting_since is None or window.size == 1
