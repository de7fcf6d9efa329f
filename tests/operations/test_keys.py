"""What makes a request another one, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from curator_llm import Endpoint, QueryModel, QueryRewardModel
from curator_llm.wire.exchange import Request

ROW = {"text": "a", "lang": "en", "try": 1, "chat": [{"role": "user", "content": "a"}]}
ENDPOINT: dict[str, Any] = {"model": "m", "base_url": "http://a:1/v1"}
STAGE: dict[str, Any] = {"prompt": "Say {text}", "generation": {"max_tokens": 8}}


def keys(stage: Any, *rows: dict[str, Any]) -> list[bytes]:
    table = {name: [row[name] for row in rows] for name in rows[0]}
    requests = stage.spec.operation.requests(table, len(rows))
    assert all(isinstance(request, Request) for request in requests)
    return [request.key for request in requests]


def key(endpoint: dict[str, Any] | None = None, stage: dict[str, Any] | None = None, **row: Any) -> bytes:
    stage = {**STAGE, **(stage or {})}
    if "messages" in stage:
        del stage["prompt"]
    return keys(QueryModel(Endpoint(**{**ENDPOINT, **(endpoint or {})}), **stage), {**ROW, **row})[0]


@pytest.mark.parametrize(
    ("endpoint", "stage"),
    [
        ({"model": "n"}, {}),
        ({"base_url": "http://a:2/v1"}, {}),
        ({"name": "fleet"}, {}),
        ({"revision": "2"}, {}),
        ({"headers": {"x-tier": "b"}}, {}),
        ({"extra_body": {"min_p": 0.1}}, {}),
        ({}, {"prompt": "Say: {text}"}),
        ({}, {"prompt": "Say {lang}"}),
        ({}, {"system": "Be brief."}),
        ({}, {"messages": "chat"}),
        ({}, {"choices": ["a", "b"]}),
        ({}, {"sample_by": "try"}),
        ({}, {"generation": {}}),
        ({}, {"generation": {"max_tokens": 9}}),
        ({}, {"generation": {"max_completion_tokens": 8}}),
        *[
            ({}, {"generation": {"max_tokens": 8, name: value}})
            for name, value in {
                "temperature": 0,
                "top_p": 0.5,
                "top_k": 3,
                "seed": 1,
                "stop": "x",
                "presence_penalty": 1,
                "frequency_penalty": 1,
                "logprobs": True,
                "reasoning_effort": "low",
                "response_format": {"type": "json_object"},
                "extra_body": {"min_p": 0.1},
            }.items()
        ],
    ],
    ids=str,
)
def test_what_can_change_the_reply_changes_the_key(endpoint: dict[str, Any], stage: dict[str, Any]) -> None:
    assert key(endpoint, stage) != key()


@pytest.mark.parametrize(
    ("endpoint", "stage"),
    [
        ({"api_key": "env:OTHER"}, {}),
        ({"timeout": "9s"}, {}),
        ({"row_deadline": "9s"}, {}),
        ({"max_attempts": 9}, {}),
        ({"max_concurrent_requests": 9}, {}),
        ({"max_requests_per_minute": 9}, {}),
        ({"max_tokens_per_minute": 9}, {}),
        ({"scope": "other"}, {}),
        ({"price_usd": (1, 2)}, {}),
        ({"proxy": "env"}, {}),
        ({"ca_file": "ca.pem"}, {}),
        ({"base_url": ["http://a:1/v1", "http://b:1/v1"]}, {}),
        ({"base_url": "http://a:1/other"}, {}),
        ({}, {"details": True}),
        ({}, {"output": "other"}),
        ({}, {"on_error": "raise"}),
        ({}, {"fail_on_error": 0.5}),
        ({}, {"journal": False}),
        ({}, {"generation": {"max_tokens": 8, "n": 1}}),
        ({}, {"messages": [{"role": "user", "content": "Say {text}"}]}),
    ],
    ids=str,
)
def test_what_cannot_change_the_reply_does_not_change_the_key(endpoint: dict[str, Any], stage: dict[str, Any]) -> None:
    assert key(endpoint, stage) == key()


def test_another_text_is_another_request_and_the_same_text_the_same() -> None:
    assert key(text="b") != key(text="a") == key(text="a", lang="fr")


def test_a_chat_in_either_form_is_the_same_request_as_its_template() -> None:
    chat = [{"role": "user", "content": "Say a"}]
    as_text = '[{"role": "user", "content": "Say a"}]'
    assert key(None, {"messages": "chat"}, chat=chat) == key(None, {"messages": "chat"}, chat=as_text) == key()


def test_rows_with_different_samples_are_different_requests() -> None:
    stage = QueryModel(Endpoint(**ENDPOINT), prompt="{text}", sample_by="try")
    rows = [{"text": "a", "try": sample} for sample in (1, 2, "1", 1.5, None, [1], 1)]
    found = keys(stage, *rows)
    assert found[0] == found[2] == found[6]
    assert len(set(found)) == 5


def test_the_sample_is_not_sent() -> None:
    stage = QueryModel(Endpoint(**ENDPOINT), prompt="{text}", sample_by="try")
    requests = stage.spec.operation.requests({"text": ["a", "a"], "try": [1, 2]}, 2)
    assert len({request.body for request in requests if isinstance(request, Request)}) == 1


def test_attributes_of_a_reward_model_do_not_change_the_key() -> None:
    endpoint = Endpoint(**ENDPOINT)
    five = QueryRewardModel(endpoint, messages="chat")
    one = QueryRewardModel(endpoint, messages="chat", attributes=["score"], output="quality", details=True)
    assert keys(five, ROW) == keys(one, ROW)


def test_another_draw_asks_the_same_anew_and_the_first_one_keeps_its_keys() -> None:
    stage = QueryModel(Endpoint(**ENDPOINT), **STAGE)
    assert keys(stage.with_draw(0), ROW) == keys(stage, ROW)
    assert len({keys(stage.with_draw(draw), ROW)[0] for draw in range(3)}) == 3
    sampled = QueryModel(Endpoint(**ENDPOINT), **STAGE, sample_by="try").with_draw(1)
    assert len(set(keys(sampled, ROW, {**ROW, "try": 2}))) == 2
