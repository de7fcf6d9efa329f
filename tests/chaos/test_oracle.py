"""The oracle of the fault matrix knows every fault, and says when it cannot know."""

from __future__ import annotations

import pytest

from curator_llm.testing import FAULTS, faults_named_in_prompt, tokens_of
from tests.chaos.oracle import RUN_FATAL, WAITED_OUT, WAYS, Expected, expected, faults_for

TOKENS = (3, tokens_of("answer to 12345678: reset@1: a row"))


def test_every_fault_the_server_can_play_ends_a_row_is_waited_out_makes_another_attempt_or_stops_the_run():
    known = {fault.partition(":")[0] for fault in (*faults_for("base_url"), *WAITED_OUT)}
    assert known | RUN_FATAL == set(FAULTS)
    assert not known & RUN_FATAL


@pytest.mark.parametrize("way", WAYS)
def test_a_reply_that_was_lost_is_charged_and_not_reported(way):
    told = TOKENS if way in WAYS[:2] else (0, 0)
    lost = (2 * TOKENS[0], 2 * TOKENS[1])
    assert expected(faults_named_in_prompt, "reset@1: a row", way=way) == Expected(
        "ok", None, 2, 2, billed=True, reported=told, charged=lost
    )


def test_a_row_that_fails_for_good_has_as_many_attempts_as_its_line_needs():
    end = expected(faults_named_in_prompt, "http:500: a row", max_attempts=3)
    assert (end.status, end.code, end.fewest, end.most, end.charged) == ("failed", "server_error", 3, 12, (0, 0))


def test_throttled_tries_are_no_attempts():
    end = expected(faults_named_in_prompt, "rate_limited@1-3: a row", max_attempts=1)
    assert (end.status, end.fewest, end.waits) == ("ok", 1, 3)


def test_what_depends_on_chance_is_not_computed():
    with pytest.raises(ValueError, match="depends on how its line does"):
        expected(faults_named_in_prompt, "http:500@1-3: a row", max_attempts=2)
