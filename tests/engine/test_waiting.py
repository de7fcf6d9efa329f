"""What is waited for: throttling servers, servers out of reach; and what is refused, and stops a run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.engine.retry import Again, Done, LineHistory, Step, Stop
from curator_llm.wire.verdicts import Verdict
from tests.engine.rows import (
    CLIENT_ERROR,
    CONNECT,
    FORBIDDEN,
    MALFORMED,
    NOT_FOUND,
    OK,
    RESET,
    SERVER_ERROR,
    THROTTLED,
    TIMEOUT,
    Row,
    throttled,
)

_any_machine = settings(deadline=None, database=None, max_examples=100)


# --- throttled --------------------------------------------------------------------------------------------------------
def test_throttling_never_fails_a_row_and_costs_no_attempt() -> None:
    row = Row(row_deadline_s=1.0, max_attempts=1)
    steps = row.take_all(*[THROTTLED] * 3000)
    assert all(isinstance(step, Again) for step in steps)
    assert row.history.attempts == 0
    assert row.take(OK) == Done("ok", final=True)


@_any_machine
@given(st.integers(0, 2**32), st.floats(0, 900))
def test_the_server_is_obeyed_with_at_most_a_quarter_more(seed: int, retry_after_s: float) -> None:
    row = Row(seed=seed)
    row.take(throttled(retry_after_s))
    assert retry_after_s <= row.now <= retry_after_s * 1.25


def test_a_wait_that_has_no_end_is_cut_to_a_quarter_of_an_hour() -> None:
    row = Row()
    row.take(throttled(1e9))
    assert 900.0 <= row.now <= 1125.0


@_any_machine
@given(st.integers(0, 2**32))
def test_without_advice_waits_double_from_a_second_to_a_minute(seed: int) -> None:
    row = Row(seed=seed)
    for tries in range(1, 10):
        before = row.now
        row.take(THROTTLED)
        most = min(60.0, 2.0 ** (tries - 1))
        assert most / 2 - 1e-6 <= row.now - before <= most + 1e-6


def test_a_throttled_row_holds_the_line_back_until_it_is_due_where_the_server_asks_for_that() -> None:
    for step in Row().take_all(*[throttled(20.0)] * 9):
        assert isinstance(step, Again)
        assert (step.throttled, step.pause_until) == (True, step.due)


def test_a_throttled_row_holds_back_itself_alone_where_the_server_says_nothing() -> None:
    for step in Row().take_all(*[THROTTLED] * 9):
        assert isinstance(step, Again)
        assert (step.throttled, step.pause_until) == (True, None)


def test_the_line_waits_only_as_long_as_the_server_asks_when_a_row_waits_longer() -> None:
    row = Row()
    row.take_all(*[THROTTLED] * 9)
    before = row.now
    step = row.take(throttled(4.0))
    assert isinstance(step, Again)
    assert step.due == before + 60.0
    assert before + 4.0 <= (step.pause_until or 0.0) <= before + 5.0


@pytest.mark.parametrize("verdict", [SERVER_ERROR, RESET, CONNECT, FORBIDDEN], ids=lambda verdict: verdict.code)
def test_other_waits_hold_back_nobody_else(verdict: Verdict) -> None:
    step = Row().take(verdict)
    assert isinstance(step, Again)
    assert step.pause_until is None


@pytest.mark.parametrize("verdict", [THROTTLED, throttled(0.0), throttled(1.0)], ids=["no advice", "0 s", "1 s"])
def test_from_the_tenth_try_on_a_minute_passes_between_tries(verdict: Verdict) -> None:
    row = Row()
    row.take_all(*[verdict] * 9)
    for _ in range(3):
        before = row.now
        row.take(verdict)
        assert row.now - before >= 60.0


# --- out of reach -----------------------------------------------------------------------------------------------------
def test_a_server_that_never_answered_and_is_out_of_reach_stops_the_run_after_a_minute() -> None:
    row = Row(answered=False)
    step: Step = Again(0.0)
    while isinstance(step, Again):
        assert row.now <= 60.0
        step = row.take(CONNECT)
    assert step == Stop()
    assert row.now == 60.0


def test_a_server_that_answered_before_is_waited_for_until_the_rows_deadline() -> None:
    row = Row(row_deadline_s=600.0)
    step: Step = Again(0.0)
    while isinstance(step, Again):
        step = row.take(CONNECT)
    assert step == Done("failed", final=False)
    assert row.now > 500.0


def test_what_never_reached_a_server_is_neither_an_attempt_nor_billed() -> None:
    row = Row()
    row.take_all(*[CONNECT] * 30)
    assert (row.history.attempts, row.history.billed) == (0, False)


def test_an_outage_of_days_is_waited_out() -> None:
    row = Row(row_deadline_s=1e9)
    assert all(isinstance(step, Again) for step in row.take_all(*[CONNECT] * 3000))


@pytest.mark.parametrize("answer", [OK, THROTTLED, SERVER_ERROR, MALFORMED], ids=lambda verdict: verdict.kind)
def test_any_reply_shows_that_the_server_is_there(answer: Verdict) -> None:
    row = Row(answered=False)
    row.take_all(CONNECT, answer)
    row.now = 1000.0
    assert isinstance(row.take(CONNECT), Again)
    assert row.line.answered


@pytest.mark.parametrize(
    "verdict",
    [RESET, TIMEOUT, Verdict("transient", code="connect", billed=True), Verdict("transient", code="closed")],
    ids=lambda verdict: verdict.code,
)
def test_a_connection_that_broke_is_no_reply(verdict: Verdict) -> None:
    line = LineHistory()
    line.note(verdict, 0.0, 0.0)
    assert not line.answered


def test_a_request_that_cannot_be_encoded_does_not_start_the_clock() -> None:
    line = LineHistory()
    line.note(Verdict("final", status="rejected", code="local", sent=False), 0.0, 0.0)
    row = Row(line=line)
    row.now = 1000.0
    assert isinstance(row.take(CONNECT), Again)


def test_a_row_that_its_client_refuses_while_later_requests_pass_fails_after_its_attempts() -> None:
    row = Row(line=LineHistory(answered=True))
    steps = [row.take(CLIENT_ERROR) for _ in range(4)]
    assert {type(step) for step in steps} == {Again}
    row.line.note(OK, row.now, sent_at=0.1)
    assert row.take(CLIENT_ERROR) == Done("failed", final=False)


def test_a_client_that_fails_for_all_rows_delays_them_and_answers_to_what_was_sent_before_prove_nothing() -> None:
    row = Row(line=LineHistory(answered=True))
    row.now = 5.0
    for _ in range(20):
        row.line.note(OK, row.now, sent_at=1.0)
        assert isinstance(row.take(CLIENT_ERROR), Again)


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", ["authentication", "not_found", "quota", "redirect", "certificate"])
def test_before_any_answer_one_refusal_stops_the_run(code: str) -> None:
    assert Row(answered=False).take(Verdict("run", code=code, text="403 no")) == Stop()


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict("run", code="authentication", text="401 bad key"),
        Verdict("run", code="quota"),
        Verdict("run", code="redirect"),
    ],
    ids=lambda verdict: verdict.code,
)
def test_a_bad_key_an_empty_account_and_a_redirect_stop_a_run_at_any_time(verdict: Verdict) -> None:
    assert Row().take(verdict) == Stop()


@pytest.mark.parametrize("verdict", [FORBIDDEN, NOT_FOUND], ids=lambda verdict: verdict.code)
def test_in_the_middle_of_a_run_the_third_refusal_in_a_row_stops_it(verdict: Verdict) -> None:
    line = LineHistory(answered=True)
    steps = [Row(line=line).take(verdict) for _ in range(3)]
    assert [type(step) for step in steps] == [Again, Again, Stop]


def test_an_answer_in_between_starts_the_count_of_refusals_anew() -> None:
    line = LineHistory(answered=True)
    for verdict in (FORBIDDEN, NOT_FOUND, OK, FORBIDDEN, FORBIDDEN):
        assert not isinstance(Row(line=line).take(verdict), Stop)


def test_one_row_that_is_refused_again_and_again_stops_no_run_that_had_answers() -> None:
    row = Row(line=LineHistory(answered=True))
    steps = [row.take(FORBIDDEN) for _ in range(5)]
    assert [type(step) for step in steps] == [Again, Again, Again, Again, Done]


def test_a_row_whose_schema_is_refused_while_those_of_others_pass_is_rejected() -> None:
    row = Row(line=LineHistory(answered=True))
    steps = [row.take(Verdict("run", status="rejected", code="request_refused", text="400 no")) for _ in range(5)]
    assert steps[-1] == Done("rejected", final=True)


def test_a_row_that_is_refused_again_and_again_while_others_are_answered_fails() -> None:
    line = LineHistory(answered=True)
    row = Row(line=line)
    steps = []
    for _ in range(5):
        line.note(OK, row.now, row.now)
        steps.append(row.take(FORBIDDEN))
    assert [type(step) for step in steps] == [Again, Again, Again, Again, Done]
    assert steps[-1] == Done("failed", final=False)
