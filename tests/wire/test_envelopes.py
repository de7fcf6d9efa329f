"""Bodies as servers send them, good and bad."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.wire.envelopes import (
    clean_text,
    has_error,
    loads_lenient,
    one_line,
    parse_completion,
    parse_error,
)

_any_machine = settings(deadline=None, database=None, max_examples=100)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
DEEP = b"[" * 100_000 + b"]" * 100_000


def body(content: Any = "hello", **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps({"id": "c-1", "object": "chat.completion", "choices": [choice], **fields}).encode()


def content_of(reply: bytes) -> Any:
    completion = parse_completion(reply)
    assert completion is not None
    message = completion.choices[0].message
    return message.content if message else None


def test_a_completion_is_decoded_with_what_it_counts() -> None:
    usage = {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    completion = parse_completion(body(model="m-2026", usage=usage))
    assert completion is not None
    assert (completion.id, completion.model) == ("c-1", "m-2026")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (11, 3)
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 8
    assert completion.usage.completion_tokens_details is not None
    assert completion.usage.completion_tokens_details.reasoning_tokens == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{}",
        b"<html><body>502</body></html>",
        b'{"error":{"message":"overloaded"}}',
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":{}}',
        b'{"choices":"x"}',
        b'{"choices":[null]}',
        b'{"choices":["x"]}',
        b'{"choices":[{"message":"x"}]}',
        b'{"choices":[{"message":{"content":"half a rep',
        b'{"choices":[{"message":{"content":"x"}}]}garbage',
        DEEP,
        b'{"choices":' + DEEP + b"}",
        b'{"choices":[{"message":{"content":"x"}}],"x":' + b"9" * 5000 + b"}x",
        b"\xff\xfe\x00",
    ],
    ids=lambda reply: repr(reply[:40]),
)
def test_what_is_no_completion_with_a_choice_is_none(reply: bytes) -> None:
    assert parse_completion(reply) is None


@pytest.mark.parametrize(
    ("reply", "content"),
    [
        (b'{"choices":[{"message":{"content":"a\xff\xfeb"}}]}', "a\ufffd\ufffdb"),
        (b'{"choices":[{"message":{"content":"a\\ud83db"}}]}', "a\ufffdb"),
        (b'{"choices":[{"message":{"content":"a\\ud83d\\ude00b"}}]}', "a\U0001f600b"),
        (b'{"choices":[{"message":{"content":"a\\ude00\\ud83db"}}]}', "a\ufffd\ufffdb"),
        (b'{"choices":[{"message":{"content":"a\\u0000b"}}]}', "a\0b"),
        (b'{"choices":[{"message":{"content":"x"},"score":NaN}]}', "x"),
        (b'{"choices":[{"message":{"content":"x"},"score":-Infinity}]}', "x"),
        (b'{"choices":[{"message":{"content":"x"},"score":1e999}]}', "x"),
        (b'{"choices":[{"message":{"content":null}}]}', None),
        (b'{"choices":[{"message":null}]}', None),
        (b'{"choices":[{}]}', None),
        (b'{"choices":[{"message":{"content":[{"type":"text","text":"x"}]}}]}', [{"type": "text", "text": "x"}]),
    ],
)
def test_broken_text_is_repaired_and_what_is_missing_is_null(reply: bytes, content: Any) -> None:
    assert content_of(reply) == content


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": "n/a"},
        {"usage": [1]},
        {"usage": {"prompt_tokens": "many"}},
        {"usage": {"prompt_tokens": -1}},
        {"usage": {"prompt_tokens": 1.5}},
        {"usage": {"prompt_tokens": 10**30}},
        {"usage": {"prompt_tokens": float("nan")}},
        {"usage": {"prompt_tokens": float("inf")}},
        {"usage": {"prompt_tokens_details": [], "completion_tokens_details": 0}},
        {"model": 5, "id": {}},
    ],
)
def test_an_answer_is_not_lost_over_its_counts_and_names(fields: dict[str, Any]) -> None:
    completion = parse_completion(body("hello", **fields))
    assert completion is not None
    assert content_of(body("hello", **fields)) == "hello"
    assert completion.usage is None or completion.usage.prompt_tokens is None


@pytest.mark.parametrize("count", [7, 7.0, "7"])
def test_a_count_may_be_written_in_other_ways(count: Any) -> None:
    completion = parse_completion(body(usage={"prompt_tokens": count, "completion_tokens": 2}))
    assert completion is not None
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 7


@pytest.mark.parametrize("field", ["index", "finish_reason", "logprobs"])
@pytest.mark.parametrize("value", [[1], {"content": [5]}, "x", 1.5])
def test_an_answer_is_not_lost_over_the_rest_of_its_choice(field: str, value: Any) -> None:
    reply = json.loads(body("hello"))
    reply["choices"][0][field] = value
    assert content_of(json.dumps(reply).encode()) == "hello"


def test_of_several_choices_the_one_with_the_lowest_index_comes_first() -> None:
    choices = [{"index": index, "message": {"content": str(index)}} for index in (2, 0, 1, 0)]
    completion = parse_completion(json.dumps({"choices": choices}).encode())
    assert completion is not None
    assert [choice.message.content for choice in completion.choices if choice.message] == ["0", "0", "1", "2"]


def test_choices_without_an_index_keep_their_order() -> None:
    choices = [{"message": {"content": text}} for text in "ba"]
    assert content_of(json.dumps({"choices": choices}).encode()) == "b"


@_any_machine
@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail(reply: bytes) -> None:
    parse_completion(reply)
    parse_error(reply)
    has_error(reply)


@_any_machine
@given(
    st.lists(st.fixed_dictionaries({"message": _json, "finish_reason": _json, "logprobs": _json}), max_size=2), _json
)
def test_no_json_makes_decoding_fail(choices: list[Any], usage: Any) -> None:
    reply = json.dumps({"choices": choices, "usage": usage, "error": usage}).encode()
    completion = parse_completion(reply)
    parse_error(reply)
    if completion is not None:
        msgspec.json.encode(completion)  # no surrogates are left in it


# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "message", "code"),
    [
        (
            b'{"error":{"message":"Rate limit","type":"tokens","param":null,"code":"rate_limit_exceeded"}}',
            "Rate limit",
            "rate_limit_exceeded",
        ),
        (b'{"object":"error","message":"No model","type":"NotFoundError","param":null,"code":404}', "No model", "404"),
        (b'{"error":"model not loaded"}', "model not loaded", ""),
        (b'{"detail":"Not Found"}', "Not Found", ""),
        (b'{"detail":[{"loc":["body","top_k"],"msg":"bad"}]}', '[{"loc": ["body", "top_k"], "msg": "bad"}]', ""),
        (b'[{"error":{"code":429,"message":"Resource exhausted"}}]', "Resource exhausted", "429"),
        (b'{"message":{"a":1}}', '{"a": 1}', ""),
        (b'{"error":null}', '{"error": null}', ""),
        (b'"plain"', "plain", ""),
        (b"null", "null", ""),
        (b"upstream\n\tconnect  error", "upstream connect error", ""),
        (b"", "", ""),
        (b"\xff", "\ufffd", ""),
        (b'{"error":{"message":"a\\ud83d \\u001b[31mred\\u0007"}}', "a\ufffd [31mred", ""),
    ],
)
def test_an_error_is_read_in_every_dialect(reply: bytes, message: str, code: str) -> None:
    error = parse_error(reply)
    assert (error.message, error.code) == (message, code)


def test_the_kind_and_parameter_of_an_error_are_kept() -> None:
    error = parse_error(b'{"error":{"message":"m","type":"invalid_request_error","param":"max_tokens","code":null}}')
    assert (error.type, error.param, error.code) == ("invalid_request_error", "max_tokens", "")


def test_an_error_that_is_nested_too_deep_is_still_a_short_text() -> None:
    assert len(parse_error(b'{"error":' + DEEP).message) <= 500


@pytest.mark.parametrize(
    ("reply", "there"),
    [
        (b'{"error":{"message":"m"}}', True),
        (b'{"error":"m","choices":[]}', True),
        (b'{"error":null,"choices":[]}', False),
        (b'{"choices":[]}', False),
        (b"<html>", False),
        (b"[]", False),
        (DEEP, False),
    ],
)
def test_an_error_object_is_found_in_a_body(reply: bytes, there: bool) -> None:
    assert has_error(reply) is there


@_any_machine
@given(st.text(st.characters()))
def test_what_a_server_says_becomes_one_short_printable_line(text: str) -> None:
    shown = one_line(text)
    assert len(shown) <= 500
    assert shown.isprintable()
    assert shown == shown.strip()


# --- leniency ---------------------------------------------------------------------------------------------------------
def test_lenient_decoding_leaves_good_json_as_it_is() -> None:
    good = {"a": [1, 2.5, None, True, "\U0001f600 \\ud83d \0"]}
    assert loads_lenient(json.dumps(good).encode()) == good


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_what_is_no_finite_number_is_null(number: bytes) -> None:
    assert loads_lenient(b'{"a":[' + number + b"]}") == {"a": [None]}


def test_broken_names_are_repaired_too() -> None:
    assert loads_lenient(b'{"\\ud83d":1}') == {"\ufffd": 1}


@_any_machine
@given(st.text(st.characters()))
def test_clean_text_can_be_sent_and_differs_in_nothing_but_halves_of_characters(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert len(cleaned) == len(text)
    assert all(new in {old, "\ufffd"} for new, old in zip(cleaned, text, strict=True))
