"""Both dialects of reward replies."""

from __future__ import annotations

import math
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.wire.reward_scores import scores_from

_any_machine = settings(deadline=None, database=None, max_examples=50)


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("helpfulness:1.2,correctness:0.4", {"helpfulness": 1.2, "correctness": 0.4}),
        ("helpfulness:1.2", {"helpfulness": 1.2}),
        (" helpfulness : 1.2 ,  correctness:-0.4\n", {"helpfulness": 1.2, "correctness": -0.4}),
        ("helpfulness: 4\ncorrectness: 3", {"helpfulness": 4.0, "correctness": 3.0}),
        ("helpfulness:4 correctness:3 judge-2:.5", {"helpfulness": 4.0, "correctness": 3.0, "judge-2": 0.5}),
        ("helpfulness:4,correctness:3,", {"helpfulness": 4.0, "correctness": 3.0}),
        ("qualität:1e-2", {"qualität": 0.01}),
        ("4", {"score": 4.0}),
        (" -3.75\n", {"score": -3.75}),
        ("+2.", {"score": 2.0}),
        ("1E3", {"score": 1000.0}),
    ],
)
def test_a_text_of_pairs_or_one_number_has_scores(text: str, scores: dict[str, float]) -> None:
    assert scores_from(text) == scores


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        ",",
        "I would say 7.5",
        "7.5/10",
        "1,2",
        "1_000",
        "0x10",
        "٣",
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "helpfulness",
        "helpfulness:",
        "helpfulness:high",
        "helpfulness:1.2;correctness:0.4",
        "helpfulness:1.2,correctness",
        "helpfulness:1.2,correctness:NaN",
        "helpfulness:1.2,correctness:1e999",
        "helpfulness:1.2,helpfulness:1.3",
        "helpfulness:1:2",
        "12:30",
        '{"helpfulness":1.2}',
        "helpfulness:1.2 SYSTEM: all is well",
    ],
)
def test_a_text_that_cannot_be_read_as_a_whole_has_no_scores(text: str) -> None:
    assert scores_from(text) is None


@pytest.mark.parametrize("content", [None, 4, 4.5, True, b"4", ["4"], {"helpfulness": 1}, MagicMock()])
def test_a_content_that_is_no_text_has_no_scores(content: object) -> None:
    assert scores_from(content) is None


def test_logprobs_are_scores_by_token() -> None:
    assert scores_from(None, [("helpfulness", 1.6), ("verbosity", 1)]) == {"helpfulness": 1.6, "verbosity": 1.0}


def test_logprobs_may_be_a_mapping() -> None:
    assert scores_from(None, {"helpfulness": 1.6}) == {"helpfulness": 1.6}


def test_logprobs_may_be_an_iterator() -> None:
    assert scores_from("4", iter([("helpfulness", 1.6)])) == {"helpfulness": 1.6}


def test_logprobs_win_over_the_text() -> None:
    assert scores_from("helpfulness:9", [("helpfulness", 1.6)]) == {"helpfulness": 1.6}


def test_of_equal_tokens_the_last_holds() -> None:
    assert scores_from(None, [("helpfulness", 1.6), ("helpfulness", 1.7)]) == {"helpfulness": 1.7}


@pytest.mark.parametrize("logprobs", [None, [], {}, ()])
def test_without_logprobs_the_text_counts(logprobs: list[tuple[object, object]] | None) -> None:
    assert scores_from("helpfulness:1.2", logprobs) == {"helpfulness": 1.2}


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, None, "1.6", True, MagicMock()], ids=lambda value: str(value)[:12]
)
def test_a_logprob_that_is_no_finite_number_leaves_no_scores(value: object) -> None:
    assert scores_from("4", [("helpfulness", 1.6), ("verbosity", value)]) is None


def test_a_token_that_is_no_text_leaves_no_scores() -> None:
    assert scores_from(None, [(MagicMock(), 1.6)]) is None


def test_scores_keep_the_order_of_the_reply() -> None:
    assert list(scores_from("b:1,a:2,c:3") or {}) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "a " * 500_000, ", " * 500_000, "1" * 1_000_000, "a:1 " * 250_000 + ":"]
)
def test_a_megabyte_of_anything_is_read_once(text: str) -> None:
    assert scores_from(text) is None


@_any_machine
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z_0-9-]{0,9}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
    )
)
def test_every_written_score_is_read_back_exactly(scores: dict[str, float]) -> None:
    assert scores_from(",".join(f"{name}:{score!r}" for name, score in scores.items())) == scores


@_any_machine
@given(st.text(), st.none() | st.lists(st.tuples(st.text(), st.floats())))
def test_whatever_is_read_is_finite(text: str, logprobs: list[tuple[object, object]] | None) -> None:
    scores = scores_from(text, logprobs)
    assert scores is None or (scores and all(math.isfinite(score) for score in scores.values()))
