"""How fast a server that asks to wait lets requests pass."""

from __future__ import annotations

import pytest

from curator_llm.limits.pace import Pace
from curator_llm.testing.quota import Bucket


def test_while_the_server_asks_for_nothing_nothing_is_spaced() -> None:
    pace = Pace()
    pace.started(now=1.0)
    pace.answered(sent_at=1.0)
    assert pace.wait_s(now=1.0) == 0


@pytest.mark.parametrize(("wait_s", "interval_s"), [(0.5, 0.5), (60.0, 1.0), (0.0, 0.0)])
def test_at_first_requests_start_as_far_apart_as_was_asked_but_a_second_at_most(wait_s, interval_s) -> None:
    pace = Pace()
    pace.asked(wait_s, sent_at=0.0, now=10.0)
    pace.started(now=20.0)
    assert pace.wait_s(now=20.0) == interval_s
    assert pace.wait_s(now=25.0) == 0


def test_each_answer_doubles_it_until_nothing_is_spaced() -> None:
    pace = Pace()
    pace.asked(0.8, sent_at=0.0, now=0.0)
    pace.answered(sent_at=0.8)
    assert pace.interval_s == 0.4
    for _ in range(9):
        pace.answered(sent_at=1.0)
    assert pace.interval_s == 0


def test_a_burst_asks_once() -> None:
    pace = Pace()
    for now in (1.0, 1.1, 1.2):
        pace.asked(0.5, sent_at=0.9, now=now)
        pace.answered(sent_at=1.05)
    assert pace.interval_s == 0.0625


def test_answers_to_what_was_sent_before_the_pause_make_nothing_faster() -> None:
    pace = Pace()
    pace.asked(0.5, sent_at=0.9, now=1.0)
    pace.answered(sent_at=0.95)
    assert pace.interval_s == 0.5


def test_where_the_server_asks_again_what_it_let_pass_is_its_pace() -> None:
    pace = Pace()
    pace.asked(1.0, sent_at=0.0, now=0.0)  # until 1.0
    for _ in range(4):
        pace.answered(sent_at=1.0)
    pace.asked(0.5, sent_at=2.0, now=2.5)  # until 3.0: four in two seconds
    assert pace.interval_s == 0.625  # a quarter slower than measured
    pace.answered(sent_at=3.0)
    assert pace.interval_s == pytest.approx(0.97 * 0.625)


def test_a_line_that_had_little_to_send_is_not_held_to_that() -> None:
    pace = Pace()
    pace.asked(0.5, sent_at=0.0, now=0.0)
    for now in (0.5, 50.0):
        pace.started(now)
        pace.answered(sent_at=now)
    pace.asked(0.5, sent_at=99.0, now=100.0)
    assert pace.interval_s == 0.125


@pytest.mark.parametrize("burst", [2, 10])
def test_a_quota_is_kept_to_with_few_refusals_and_used(burst: int) -> None:
    bucket, pace = Bucket(per_minute=120, burst=burst, now=0.0), Pace()
    now, passed, refused, resumes_at = 0.0, 0, 0, 0.0
    while passed < 200:
        now = max(now + pace.wait_s(now), resumes_at)
        pace.started(now)
        wait_s = bucket.take(1, now)
        if wait_s:
            refused += 1
            pace.asked(wait_s, sent_at=now, now=now + 0.01)
            resumes_at = now + 0.01 + wait_s
        else:
            passed += 1
            pace.answered(sent_at=now)
    assert refused <= 30
    assert now <= 1.05 * 200 / 2
