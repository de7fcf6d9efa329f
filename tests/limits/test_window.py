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


@_any_machine
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300), st.floats(0, 5)), max_size=200))
def test_it_always_lets_one_request_through(steps: list[tuple[bool, int, float]]) -> None:
    window = Window()
    now = 0.0
    for good, in_flight, gap in steps:
        sent_at, now = now, now + gap
        if good:
            window.succeeded(cap=1_000_000)
        else:
            window.throttled(in_flight, sent_at, now, cap=300)
        assert window.size >= 1
