"""What the reply of a reward model means."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.operations.reward import HELPSTEER_ATTRIBUTES, Reward
from curator_llm.prompt.messages import ChatColumn
from curator_llm.wire.exchange import Record

Make = Callable[..., Record]
Write = Callable[..., bytes]

FIVE = {"helpfulness": 1.6, "correctness": 1.5, "coherence": 3.25, "complexity": 0.5, "verbosity": -0.5}


def reward(*attributes: str) -> Reward:
    attributes = attributes or HELPSTEER_ATTRIBUTES
    return Reward(
        model="m", identity="a", messages=ChatColumn("chat"), body_fields={}, output="r", attributes=attributes
    )


def logprobs(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "content": [
            {"token": name, "logprob": score, "bytes": None, "top_logprobs": []} for name, score in scores.items()
        ]
    }


def pairs(scores: dict[str, float]) -> str:
    return ",".join(f"{name}:{score}" for name, score in scores.items())


def test_the_five_of_helpsteer_are_the_default() -> None:
    assert reward().attributes == tuple(FIVE)


def test_the_columns_are_the_text_a_number_for_each_attribute_status_and_error() -> None:
    assert reward("a", "b").columns == (
        ("r", "string[pyarrow]"),
        ("r__a", "Float64"),
        ("r__b", "Float64"),
        ("r__status", "string[pyarrow]"),
        ("r__error", "string[pyarrow]"),
    )


@pytest.mark.parametrize(
    "reply",
    [
        {"content": None, "logprobs": logprobs(FIVE)},
        {"content": "", "logprobs": logprobs(FIVE)},
        {"content": pairs(FIVE)},
        {"content": pairs(dict.fromkeys(FIVE, 9.0)), "logprobs": logprobs(FIVE)},
        {"content": pairs(FIVE), "logprobs": {"content": []}},
        {"content": pairs(FIVE), "logprobs": {"content": None}},
    ],
    ids=["logprobs", "logprobs and no text", "text", "logprobs win", "no logprobs", "null logprobs"],
)
def test_scores_come_from_logprobs_else_from_the_text(record: Make, completion: Write, reply: dict[str, Any]) -> None:
    values = reward().read([record(reward(), completion(**reply))])
    assert {name: values[f"r__{name}"][0] for name in FIVE} == FIVE
    assert json.loads(values["r"][0]) == FIVE
    assert (values["r__status"], values["r__error"]) == (["ok"], [None])


def test_one_number_is_a_score(record: Make, completion: Write) -> None:
    operation = reward("score")
    values = operation.read([record(operation, completion("-3.75"))])
    assert (values["r"], values["r__score"]) == (['{"score":-3.75}'], [-3.75])


def test_scores_beyond_the_declared_ones_stand_in_the_text(record: Make, completion: Write) -> None:
    operation = reward("helpfulness")
    values = operation.read([record(operation, completion(pairs(FIVE)))])
    assert values["r__helpfulness"] == [1.6]
    assert json.loads(values["r"][0]) == FIVE


def test_other_scores_than_the_declared_ones_are_invalid_and_named(record: Make, completion: Write) -> None:
    values = reward().read([record(reward(), completion("safety:1.0,honesty:2.0"))])
    assert values["r__status"] == ["invalid"]
    assert values["r__error"] == [
        "other_attributes: no score for 'helpfulness'; attributes=['safety', 'honesty'] takes those of the reply"
    ]
    assert values["r"] == [None]
    assert all(values[f"r__{name}"] == [None] for name in FIVE)


def test_a_missing_attribute_makes_no_half_row(record: Make, completion: Write) -> None:
    four = {name: score for name, score in FIVE.items() if name != "verbosity"}
    values = reward().read([record(reward(), completion(pairs(four)))])
    assert values["r__status"] == ["invalid"]
    assert values["r__helpfulness"] == [None]


@pytest.mark.parametrize(
    "reply",
    [
        {"content": "I would say 7.5/10"},
        {"content": "NaN"},
        {"content": "1e999"},
        {"content": None},
        {"content": [{"type": "text", "text": "4"}]},
        {"content": "helpfulness:high"},
        {"content": None, "logprobs": logprobs({"helpfulness": None})},
        {"content": None, "logprobs": logprobs({"helpfulness": float("nan")})},
        {"content": None, "logprobs": logprobs({"helpfulness": 1e400})},
    ],
    ids=str,
)
def test_a_reply_without_finite_scores_is_invalid_and_never_zero(
    record: Make, completion: Write, reply: dict[str, Any]
) -> None:
    operation = reward("helpfulness")
    values = operation.read([record(operation, completion(**reply))])
    assert values["r__status"] == ["invalid"]
    assert values["r__error"][0].startswith("no_scores: ")
    assert "likely not a reward model" in values["r__error"][0]
    assert values["r__helpfulness"] == [None]


def test_names_that_a_server_makes_up_are_shown_in_short(record: Make, completion: Write) -> None:
    made_up = {f"\x1b[31m\n{'x' * 1000}{number}": 1.0 for number in range(100)}
    values = reward().read([record(reward(), completion(None, logprobs=logprobs(made_up)))])
    assert len(values["r__error"][0]) < 1000
    assert values["r__error"][0].isprintable()


def test_a_reply_is_final_and_paid(completion: Write) -> None:
    verdict = reward().judge(completion(pairs(FIVE)))
    assert (verdict.kind, verdict.status, verdict.billed, verdict.input_tokens) == ("final", "ok", True, 11)
    assert reward().judge(completion("none")).billed


def test_a_page_is_worth_another_try() -> None:
    assert reward().judge(b"<html>").kind == "transient"


def test_a_record_of_a_chat_is_read_as_what_is_asked_for_now(record: Make, completion: Write) -> None:
    as_reward = record(reward("score"), completion("4"), op="chat/1")
    assert reward("score").read([as_reward])["r__score"] == [4.0]


@pytest.mark.parametrize("attributes", [("a", "a"), ("status",), ("error",), ("cost_usd",), ("",), (5,)])
def test_attributes_whose_columns_would_clash_are_refused(attributes: Any) -> None:
    with pytest.raises(ConfigurationError, match="`attributes` has"):
        reward(*attributes)
