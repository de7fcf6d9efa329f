"""What happens after each verdict: done, or again at a time. On a clock of our own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.engine.retry import Again, Done, LineHistory, Step, next_step
from curator_llm.wire.verdicts import Verdict
from tests.engine.rows import (
    CLIENT_ERROR,
    CONNECT,
    ERROR_IN_200,
    FORBIDDEN,
    MALFORMED,
    OK,
    RESET,
    SERVER_ERROR,
    THROTTLED,
    TIMEOUT,
    Row,
    throttled,
)

_any_machine = settings(deadline=None, database=None, max_examples=100)


# --- final ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", ["ok", "truncated", "filtered", "refused", "empty", "invalid", "rejected"])
def test_an_outcome_is_final_after_one_attempt(status: Any) -> None:
    row = Row()
    assert row.take(Verdict("final", status=status)) == Done(status, final=True)
    assert row.history.attempts == 1


def test_a_row_that_failed_is_asked_again_in_the_next_run() -> None:
    assert Row().take(Verdict("final", status="failed")) == Done("failed", final=False)


def test_what_was_not_sent_is_no_attempt() -> None:
    row = Row()
    row.take(Verdict("final", status="rejected", code="local", sent=False))
    assert row.history.attempts == 0


# --- transient --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("verdict", "attempts"),
    [(SERVER_ERROR, 5), (RESET, 5), (TIMEOUT, 2), (MALFORMED, 2), (ERROR_IN_200, 2)],
    ids=lambda value: getattr(value, "code", value),
)
def test_a_row_fails_after_so_many_attempts(verdict: Verdict, attempts: int) -> None:
    row = Row()
    steps = row.take_all(*[verdict] * attempts)
    assert all(isinstance(step, Again) for step in steps[:-1])
    assert steps[-1] == Done("failed", final=False)
    assert row.history.attempts == attempts


@pytest.mark.parametrize("most", [1, 2, 7])
def test_the_endpoint_says_how_many_attempts(most: int) -> None:
    steps = Row(max_attempts=most).take_all(*[SERVER_ERROR] * most)
    assert isinstance(steps[-1], Done)
    assert all(isinstance(step, Again) for step in steps[:-1])


def line_that_fails(share: float) -> LineHistory:
    """A line after 2,000 attempts of which the server failed such a share, evenly spread."""
    line = LineHistory(answered=True)
    for number in range(2_000):
        fails = int((number + 1) * share) > int(number * share)
        line.note(SERVER_ERROR if fails else OK, 0.0, 0.0)
    return line


def attempts_until_it_fails(row: Row, verdict: Verdict) -> int:
    """Take the same verdict again and again; what others of its line meet meanwhile does not change."""
    while isinstance(next_step(row.history, verdict, 0.0, row.rng), Again):
        pass
    return row.history.attempts


@pytest.mark.parametrize(
    ("share", "most", "attempts"),
    [(0.0, 5, 5), (0.05, 5, 5), (0.05, 2, 2), (0.3, 5, 12), (0.3, 2, 8), (0.3, 20, 20), (0.5, 5, 20), (1.0, 5, 20)],
)
def test_a_row_has_as_many_attempts_as_make_giving_up_by_chance_improbable(share, most, attempts) -> None:
    line = line_that_fails(share)
    row = Row(line=line, max_attempts=most, row_deadline_s=1e9)
    assert attempts_until_it_fails(row, SERVER_ERROR) == attempts


def test_on_a_line_that_goes_well_a_row_that_always_fails_has_no_more_than_its_attempts() -> None:
    assert attempts_until_it_fails(Row(line=line_that_fails(0.0)), SERVER_ERROR) == 5


def test_one_attempt_is_one_however_much_fails() -> None:
    assert attempts_until_it_fails(Row(line=line_that_fails(0.5), max_attempts=1), SERVER_ERROR) == 1


@pytest.mark.parametrize(("verdict", "attempts"), [(RESET, 5), (TIMEOUT, 2), (MALFORMED, 2)], ids=lambda v: str(v)[:5])
def test_attempts_that_may_be_billed_are_never_more_than_the_endpoint_says(verdict: Verdict, attempts: int) -> None:
    assert attempts_until_it_fails(Row(line=line_that_fails(0.5)), verdict) == attempts


@pytest.mark.parametrize("verdict", [THROTTLED, CONNECT, MALFORMED, CLIENT_ERROR, FORBIDDEN], ids=lambda v: v.code)
def test_what_says_nothing_about_how_well_a_server_is_makes_no_brown_out(verdict: Verdict) -> None:
    line = line_that_fails(0.0)
    for _ in range(100):
        line.note(verdict, 0.0, 0.0)
    assert line.failure_rate == 0.0


def test_a_server_that_is_well_again_is_soon_taken_for_it() -> None:
    line = line_that_fails(0.3)
    for _ in range(400):
        line.note(OK, 0.0, 0.0)
    assert attempts_until_it_fails(Row(line=line), SERVER_ERROR) == 5


def test_attempts_of_all_kinds_count_together() -> None:
    steps = Row().take_all(SERVER_ERROR, TIMEOUT, MALFORMED, RESET, SERVER_ERROR)
    assert [type(step) for step in steps] == [Again, Again, Again, Again, Done]


def test_malformed_bodies_count_together_whatever_is_wrong_with_them() -> None:
    assert isinstance(Row().take_all(MALFORMED, ERROR_IN_200)[-1], Done)


def test_a_request_that_the_server_wanted_again_stays_rejected_in_the_end() -> None:
    wanted = Verdict("transient", status="rejected", code="bad_request")
    assert Row().take_all(*[wanted] * 5)[-1] == Done("rejected", final=True)


def test_an_answer_after_failures_is_an_answer() -> None:
    row = Row()
    assert row.take_all(SERVER_ERROR, TIMEOUT, OK)[-1] == Done("ok", final=True)
    assert row.history.attempts == 3


@_any_machine
@given(st.integers(0, 2**32))
def test_waits_are_spread_and_bounded(seed: int) -> None:
    row = Row(seed=seed, max_attempts=50, row_deadline_s=1e9)
    for tries in range(1, 40):
        before = row.now
        row.take(SERVER_ERROR)
        assert 0.1 - 1e-6 <= row.now - before <= min(8.0, 0.5 * 2**tries) + 1e-6


def test_rows_that_failed_together_do_not_come_back_together() -> None:
    rows = [Row(seed=seed) for seed in range(20)]
    for row in rows:
        row.take(SERVER_ERROR)
    assert len({row.now for row in rows}) == 20


def test_a_server_error_waits_as_long_as_the_server_asks_but_not_for_ever() -> None:
    row = Row()
    row.take(Verdict("transient", code="server_error", retry_after_s=40.0))
    assert row.now == 40.0
    row.take(Verdict("transient", code="server_error", retry_after_s=1e9))
    assert row.now == 940.0


@pytest.mark.parametrize(
    ("verdicts", "billed"),
    [
        ([SERVER_ERROR, SERVER_ERROR], False),
        ([THROTTLED, CONNECT], False),
        ([TIMEOUT, SERVER_ERROR], True),
        ([RESET, THROTTLED], True),
        ([SERVER_ERROR, OK], True),
        ([MALFORMED], True),
    ],
)
def test_a_row_is_billed_if_any_attempt_may_have_been(verdicts: list[Verdict], billed: bool) -> None:
    row = Row()
    row.take_all(*verdicts)
    assert row.history.billed is billed


# --- deadline ---------------------------------------------------------------------------------------------------------
def test_nothing_is_sent_after_the_rows_deadline() -> None:
    row = Row(row_deadline_s=10.0, max_attempts=1000)
    step: Step = Again(0.0)
    while isinstance(step, Again):
        assert step.due < 10.0
        step = row.take(SERVER_ERROR)
    assert step == Done("failed", final=False)


def test_an_attempt_that_ends_after_the_deadline_is_the_last() -> None:
    row = Row(row_deadline_s=10.0)
    row.now = 10.0
    assert row.take(SERVER_ERROR) == Done("failed", final=False)


def test_an_answer_that_comes_after_the_deadline_is_taken() -> None:
    row = Row(row_deadline_s=10.0)
    row.now = 100.0
    assert row.take(OK) == Done("ok", final=True)


def test_waiting_for_a_throttling_server_does_not_count() -> None:
    row = Row(row_deadline_s=10.0)
    row.take_all(*[throttled(100.0)] * 5)
    assert row.now >= 500.0
    assert isinstance(row.take(SERVER_ERROR), Again)


# --- whose fault it is ------------------------------------------------------------------------------------------------
def test_a_row_is_suspect_once_something_that_was_sent_after_its_failure_has_passed() -> None:
    line = LineHistory(answered=True)
    row = Row(line=line)
    assert not row.history.is_suspect
    row.take(SERVER_ERROR)
    assert not row.history.is_suspect
    line.note(OK, now=9.0, sent_at=-1.0)
    assert not row.history.is_suspect
    line.note(OK, now=9.0, sent_at=1.0)
    assert row.history.is_suspect


def test_rows_that_fail_again_and_again_make_no_brown_out() -> None:
    line = LineHistory(answered=True)
    for _ in range(200):
        line.note(SERVER_ERROR, 0.0, 0.0, is_first=False)
    assert line.failure_rate == 0


def test_a_refusal_is_open_until_something_that_was_sent_later_passes() -> None:
    line = LineHistory(answered=True)
    Row(line=line).take(FORBIDDEN)
    line.note(OK, now=1.0, sent_at=-1.0)
    assert line.refused_since == 0.0
    line.note(OK, now=2.0, sent_at=1.0)
    assert line.refused_since is None
