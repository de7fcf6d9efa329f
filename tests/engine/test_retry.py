"""What happens after each verdict: done, again at a time, or stop. On a clock of our own."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.engine.retry import Again, Done, History, LineHistory, RetryPolicy, Step, Stop, next_step
from curator_llm.wire.verdicts import Verdict

_any_machine = settings(deadline=None, database=None, max_examples=100)

OK = Verdict("final", status="ok", billed=True)
THROTTLED = Verdict("throttled", code="rate_limited")
SERVER_ERROR = Verdict("transient", code="server_error")
RESET = Verdict("transient", code="reset", billed=True)
TIMEOUT = Verdict("transient", code="timeout", billed=True)
MALFORMED = Verdict("transient", code="malformed", billed=True)
ERROR_IN_200 = Verdict("transient", code="error_in_200", billed=True)
CONNECT = Verdict("transient", code="connect", sent=False)
CLIENT_ERROR = Verdict("transient", code="client_error", sent=False)
FORBIDDEN = Verdict("run", code="authentication", text="403 no")
NOT_FOUND = Verdict("run", code="not_found", text="404 no")


def throttled(retry_after_s: float) -> Verdict:
    return Verdict("throttled", code="rate_limited", retry_after_s=retry_after_s)


class Row:
    """A row on its way: takes verdicts and keeps the time."""

    def __init__(self, *, answered: bool = True, line: LineHistory | None = None, seed: int = 0, **policy: Any) -> None:
        bounds = {"max_attempts": 5, "row_deadline_s": 3600.0, "unreachable_after_s": 60.0, **policy}
        self.line = line or LineHistory(answered=answered)
        self.history = History(RetryPolicy(**bounds), self.line, first_sent_at=0.0)
        self.rng = random.Random(seed)
        self.now = 0.0

    def take(self, verdict: Verdict) -> Step:
        """Take a verdict and let the time pass until the row is due."""
        self.line.note(verdict, self.now, self.now)
        step = next_step(self.history, verdict, self.now, self.rng)
        if isinstance(step, Again):
            assert step.due >= self.now
            self.now = step.due
        return step

    def take_all(self, *verdicts: Verdict) -> list[Step]:
        return [self.take(verdict) for verdict in verdicts]


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
