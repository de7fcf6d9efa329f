"""What the reply of a chat model means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.errors import ConfigurationError
from curator_llm.operations.chat import Chat, choice_format
from curator_llm.prompt.messages import ChatColumn
from curator_llm.wire.exchange import Record

Make = Callable[..., Record]
Write = Callable[..., bytes]

_any_machine = settings(deadline=None, database=None, max_examples=100)


def chat(*choices: str) -> Chat:
    return Chat(model="m", identity="a", messages=ChatColumn("chat"), body_fields={}, output="o", choices=choices)


def read(operation: Chat, record: Record) -> tuple[Any, Any, Any]:
    values = operation.read([record])
    return values["o"][0], values["o__status"][0], values["o__error"][0]


PARTS = [
    {"type": "text", "text": "Hel"},
    {"type": "image"},
    "odd",
    {"type": "text", "text": 5},
    {"type": "text", "text": "lo"},
]


@pytest.mark.parametrize(
    ("reply", "text", "status", "code"),
    [
        ({"content": "hello"}, "hello", "ok", None),
        ({"content": " \n"}, " \n", "ok", None),
        ({"content": "a\0b"}, "a\0b", "ok", None),
        ({"content": PARTS}, "Hello", "ok", None),
        ({"content": "hello", "tool_calls": [{"id": "1"}]}, "hello", "ok", None),
        ({"content": "hello", "finish": "tool_calls"}, "hello", "ok", None),
        ({"content": "hello", "finish": "eos"}, "hello", "ok", None),
        ({"content": "hel", "finish": "length"}, "hel", "truncated", "max_tokens"),
        ({"content": None, "finish": "length"}, None, "truncated", "max_tokens"),
        ({"content": "", "finish": "length"}, None, "truncated", "max_tokens"),
        ({"content": "hel", "finish": "content_filter"}, "hel", "filtered", "content_filter"),
        ({"content": None, "finish": "content_filter"}, None, "filtered", "content_filter"),
        ({"content": None, "refusal": "I cannot."}, None, "refused", "refusal"),
        ({"content": "partly", "refusal": "I cannot."}, None, "refused", "refusal"),
        ({"content": None, "refusal": "I cannot.", "finish": "length"}, None, "refused", "refusal"),
        ({"content": None}, None, "empty", "no_content"),
        ({"content": ""}, None, "empty", "no_content"),
        ({"content": []}, None, "empty", "no_content"),
        ({"content": 5}, None, "empty", "no_content"),
        ({"content": {"a": 1}}, None, "empty", "no_content"),
        ({"content": None, "refusal": ""}, None, "empty", "no_content"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, None, "empty", "tool_calls_only"),
        ({"content": "<think>Hm.</think>\nhello"}, "hello", "ok", None),
        ({"content": "<think>Hm."}, None, "empty", "only_reasoning"),
        ({"content": "<think>Hm.</think>"}, None, "empty", "only_reasoning"),
        ({"content": "<think>Hm.", "finish": "length"}, None, "truncated", "max_tokens"),
        ({"content": None, "reasoning_content": "Hm."}, None, "empty", "only_reasoning"),
        ({"content": [{"type": "thinking", "thinking": "Hm."}]}, None, "empty", "only_reasoning"),
    ],
    ids=str,
)
def test_each_reply_has_its_status_and_the_text_it_brought(
    record: Make, completion: Write, reply: dict[str, Any], text: str | None, status: str, code: str | None
) -> None:
    value, found, error = read(chat(), record(chat(), completion(**reply)))
    assert (value, found) == (text, status)
    assert error is None if code is None else error.startswith(f"{code}: ")


def test_every_reply_is_final_and_paid_with_what_the_server_counted(completion: Write) -> None:
    verdict = chat().judge(completion("hello"))
    assert (verdict.kind, verdict.billed, verdict.model) == ("final", True, "m-2026")
    assert (verdict.input_tokens, verdict.output_tokens) == (11, 3)


def test_an_answer_without_counts_is_an_answer(record: Make) -> None:
    body = b'{"choices":[{"message":{"content":"hello"}}]}'
    assert read(chat(), record(chat(), body)) == ("hello", "ok", None)
    assert chat().judge(body).input_tokens is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"choices":[]}', b'{"error":{"message":"x"}}'])
def test_what_is_no_answer_is_worth_another_try(body: bytes) -> None:
    assert chat().judge(body).kind == "transient"


def test_a_refusal_is_shown_on_one_short_line(record: Make, completion: Write) -> None:
    _, _, error = read(chat(), record(chat(), completion(None, refusal="No\n\x1b[31m" + "o" * 1000)))
    assert error.startswith("refusal: No")
    assert error.isprintable()
    assert len(error) < 600


# --- choices ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "said",
    [
        "Sport",
        "sport",
        " SPORT\n",
        '{"choice":"Sport"}',
        '{ "choice" : " sport " }',
        '{"choice":"sport","why":"goals"}',
        '"sport"',
    ],
)
def test_a_choice_is_found_whatever_its_case_bare_or_in_the_object_that_was_asked_for(
    record: Make, completion: Write, said: str
) -> None:
    operation = chat("News", "Sport")
    assert read(operation, record(operation, completion(said))) == ("Sport", "ok", None)


def test_choices_are_compared_by_casefold(record: Make, completion: Write) -> None:
    operation = chat("Straße", "Weg")
    assert read(operation, record(operation, completion("STRASSE")))[0] == "Straße"


@pytest.mark.parametrize("choice", ['{"a": 1}', '"quoted"', "[1]", "5"])
def test_a_choice_that_looks_like_json_is_found_too(record: Make, completion: Write, choice: str) -> None:
    operation = chat(choice, "other")
    assert read(operation, record(operation, completion(choice))) == (choice, "ok", None)


@pytest.mark.parametrize(
    "said",
    [
        "weather",
        "sports",
        "The topic is sport.",
        '{"choice":"weather"}',
        '{"choice":5}',
        '{"choice":null}',
        '{"topic":"sport"}',
        '{"choice":"spo',
        '["sport"]',
        "5",
        "[" * 5000,
    ],
)
def test_what_is_no_choice_is_invalid_and_shown(record: Make, completion: Write, said: str) -> None:
    operation = chat("news", "sport")
    value, status, error = read(operation, record(operation, completion(said)))
    assert (value, status) == (None, "invalid")
    assert error.startswith(f"not_a_choice: {said[:80]!r} is none of the choices")


def test_a_choice_that_was_cut_off_is_invalid_with_what_to_change(record: Make, completion: Write) -> None:
    operation = chat("news", "sport")
    _, status, error = read(operation, record(operation, completion("spo", finish="length")))
    assert status == "invalid"
    assert error == "truncated_choice: 'spo' is none of the choices; raise max_tokens"


@pytest.mark.parametrize("said", ["sport", '{"choice":"sport"}'])
def test_a_choice_that_was_said_in_full_before_the_cut_is_taken(record: Make, completion: Write, said: str) -> None:
    operation = chat("news", "sport")
    assert read(operation, record(operation, completion(said, finish="length"))) == ("sport", "ok", None)


def test_a_cut_that_could_have_gone_on_to_another_choice_is_invalid(record: Make, completion: Write) -> None:
    operation = chat("new", "new york")
    assert read(operation, record(operation, completion("new", finish="length")))[1] == "invalid"
    assert read(operation, record(operation, completion("new"))) == ("new", "ok", None)


@pytest.mark.parametrize(
    "reply", [{"content": None}, {"content": "x", "refusal": "No."}, {"content": "x", "finish": "content_filter"}]
)
def test_a_reply_without_an_answer_keeps_its_status_under_choices(
    record: Make, completion: Write, reply: dict[str, Any]
) -> None:
    operation = chat("a", "b")
    assert (
        read(operation, record(operation, completion(**reply)))[1]
        == read(chat(), record(chat(), completion(**reply)))[1]
    )


@_any_machine
@given(st.text(st.characters()))
def test_whatever_is_said_the_value_is_a_choice_or_null(said: str) -> None:
    found = chat("a", "b")._match(said, cut=False)
    assert found in {"a", "b", None}


def test_choices_are_asked_for_as_a_strict_enum_inside_an_object() -> None:
    asked = choice_format(["b", "a"])
    assert asked["type"] == "json_schema"
    schema = asked["json_schema"]["schema"]
    assert asked["json_schema"]["strict"] is True
    assert schema["properties"]["choice"]["enum"] == ["b", "a"]
    assert schema["required"] == ["choice"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "choices",
    [[], ["a"], ["a", "A "], ["a", "b", "A"], ["a", ""], ["a", "  "], ["a", 5], ["a", None], ["a", "\ud83d"], "ab"],
)
def test_choices_that_cannot_be_told_apart_are_refused(choices: Any) -> None:
    with pytest.raises(ConfigurationError, match="two or more texts"):
        choice_format(choices)
