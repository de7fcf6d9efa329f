"""Generation parameters: what is taken, what is refused, and the bytes they become."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from curator_llm import GenerationConfig
from curator_llm.errors import ConfigurationError

EVERYTHING = {
    "max_tokens": 8,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 7,
    "stop": ["\n"],
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "logprobs": True,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
}


def test_every_parameter_of_the_api_is_taken_and_passed_on() -> None:
    assert GenerationConfig.of(EVERYTHING).body_fields() == EVERYTHING


def test_what_is_not_given_is_not_sent() -> None:
    assert GenerationConfig.of(None).body_fields() == {}


def test_zero_and_false_are_sent() -> None:
    assert GenerationConfig(temperature=0, logprobs=False).body_fields() == {"temperature": 0, "logprobs": False}


def test_the_order_of_the_fields_is_fixed_whatever_the_order_in_which_they_are_given() -> None:
    turned = dict(reversed(EVERYTHING.items()))
    assert list(GenerationConfig.of(turned).body_fields()) == list(EVERYTHING)


def test_further_fields_follow_in_the_order_of_their_names() -> None:
    config = GenerationConfig(seed=1, extra_body={"min_p": 0.1, "guided_regex": "a*"})
    assert list(config.body_fields()) == ["seed", "guided_regex", "min_p"]


def test_the_order_inside_a_value_is_kept_as_a_schema_means_it() -> None:
    schema = {"properties": {"zeta": {}, "alpha": {}}, "type": "object"}
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    kept = GenerationConfig(response_format=asked).body_fields()["response_format"]["json_schema"]["schema"]
    assert list(kept) == ["properties", "type"]
    assert list(kept["properties"]) == ["zeta", "alpha"]


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [("max_token", "max_tokens"), ("tempreture", "temperature"), ("topp", "top_p"), ("stops", "stop")],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(unknown: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        GenerationConfig.of({unknown: 1})
    assert repr(unknown) in str(raised.value)
    assert f"Did you mean '{meant}'?" in str(raised.value)
    assert "`extra_body`" in str(raised.value)


@pytest.mark.parametrize("samples", [2, 0, None, "many"])
def test_several_replies_to_a_row_are_refused_with_advice(samples: object) -> None:
    with pytest.raises(ConfigurationError, match="sample_by"):
        GenerationConfig.of({"n": samples})


def test_one_reply_to_a_row_may_be_said() -> None:
    assert GenerationConfig.of({"n": 1, "seed": 3}) == GenerationConfig(seed=3)


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n"])
def test_extra_body_cannot_set_what_the_stage_sets(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}', which the stage sets itself"):
        GenerationConfig(extra_body={name: 1})


@pytest.mark.parametrize("name", ["temperature", "max_tokens", "response_format"])
def test_extra_body_cannot_set_what_has_a_parameter(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}', which is a parameter of its own"):
        GenerationConfig(extra_body={name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_completion_tokens", "8"),
        ("temperature", "0"),
        ("temperature", float("nan")),
        ("temperature", True),
        ("top_p", float("inf")),
        ("top_k", 0.5),
        ("seed", "1"),
        ("stop", ["a", 1]),
        ("stop", 5),
        ("logprobs", 1),
        ("reasoning_effort", 3),
        ("response_format", "json_object"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_name_and_value(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        GenerationConfig.of({name: value})
    assert f"`{name}` is {value!r}: give" in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, b"bytes", object(), float("nan"), "\ud83d", np.float64(1.5)],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_carry_is_refused_when_the_stage_is_built(value: object) -> None:
    with pytest.raises(ConfigurationError, match="JSON cannot carry"):
        GenerationConfig(extra_body={"guided_choice": value})


@pytest.mark.parametrize("extra", [5, "a=1", {1: 2}])
def test_extra_body_is_a_mapping_with_names(extra: object) -> None:
    with pytest.raises(ConfigurationError, match="dict of names and values"):
        GenerationConfig(extra_body=extra)


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'temperature=0'"):
        GenerationConfig.of("temperature=0")


def test_both_names_of_the_token_limit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="keep one"):
        GenerationConfig(max_tokens=1, max_completion_tokens=1)


def test_a_config_travels_and_says_what_it_is() -> None:
    config = GenerationConfig(max_tokens=8, extra_body={"min_p": 0.1})
    assert pickle.loads(pickle.dumps(config)) == config
    assert repr(config) == "GenerationConfig(max_tokens=8, extra_body={'min_p': 0.1})"


def test_a_config_is_taken_as_it_is() -> None:
    config = GenerationConfig(seed=1)
    assert GenerationConfig.of(config) is config
