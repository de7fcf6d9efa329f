"""Replies that must be JSON: what is taken, what is not, and that no text makes reading fail."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.errors import ConfigurationError
from curator_llm.operations.chat import Chat, choice_format
from curator_llm.operations.structured import JsonForm
from curator_llm.prompt.messages import ChatColumn
from curator_llm.spec.json_schema import MAX_DEPTH, validator_of
from curator_llm.wire.exchange import Record

Make = Callable[..., Record]
Write = Callable[..., bytes]

_any_machine = settings(deadline=None, database=None, max_examples=200)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
ASKED = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
ANY_JSON = {"type": "json_schema", "json_schema": {"name": "any", "schema": {}}}


def chat(response_format: Any = ASKED, **changes: Any) -> Chat:
    fields = {"response_format": response_format}
    return Chat(
        **{"model": "m", "identity": "a", "messages": ChatColumn("c"), "body_fields": fields, "output": "o", **changes}
    )


def read(operation: Chat, record: Record) -> tuple[Any, Any, Any]:
    values = operation.read([record])
    return values["o"][0], values["o__status"][0], values["o__error"][0]


# --- what is taken ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('{"name":"Ada"}', '{"name":"Ada"}'),
        ('\n {"age": 1.0,  "name": "Ada"}\n', '{"age": 1.0,  "name": "Ada"}'),
        ('```json\n{"name": "Ada"}\n```', '{"name": "Ada"}'),
        ('```JSON\r\n{"name": "Ada"}\n```\n', '{"name": "Ada"}'),
        ('```\n{"name": "Ada"}\n```', '{"name": "Ada"}'),
        ('```{"name": "Ada"}```', '{"name": "Ada"}'),
        ('```JSON {"name": "Ada"} ```', '{"name": "Ada"}'),
        ('\ufeff{"name": "Ada"}', '{"name": "Ada"}'),
        ('{"name": "```"}', '{"name": "```"}'),
        ('<think>A name.</think>\n{"name": "Ada"}', '{"name": "Ada"}'),
        ('{"name": "\\ud83d\\ude00"}', '{"name": "\\ud83d\\ude00"}'),
        ('{"name": "\\\\ud83d"}', '{"name": "\\\\ud83d"}'),
    ],
)
def test_a_reply_that_matches_is_kept_as_the_model_sent_it(
    record: Make, completion: Write, said: str, kept: str
) -> None:
    assert read(chat(), record(chat(), completion(said))) == (kept, "ok", None)


@pytest.mark.parametrize("said", ["{}", '{"a":[1,{"b":null}]}'])
def test_a_json_object_may_be_any_object(record: Make, completion: Write, said: str) -> None:
    operation = chat({"type": "json_object"})
    assert read(operation, record(operation, completion(said))) == (said, "ok", None)


@pytest.mark.parametrize("asked", [{"type": "text"}, {"type": "grammar", "grammar": "x"}, None])
def test_a_format_that_is_no_json_is_not_checked(record: Make, completion: Write, asked: Any) -> None:
    operation = chat(asked)
    assert read(operation, record(operation, completion("no JSON"))) == ("no JSON", "ok", None)


def test_the_schema_beside_a_json_object_is_checked_too(record: Make, completion: Write) -> None:
    operation = chat({"type": "json_object", "schema": PERSON})
    assert read(operation, record(operation, completion("{}")))[1] == "invalid"


def test_choices_ask_with_a_schema_and_match_as_ever(record: Make, completion: Write) -> None:
    operation = chat(choice_format(["news", "sport"]), choices=("news", "sport"))
    assert read(operation, record(operation, completion("<think>Hm.</think>Sport"))) == ("sport", "ok", None)


# --- what is not ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Ada", "not_json: Expecting value: line 1 column 1 (char 0); the reply begins 'Ada'"),
        ('Here: {"name":"Ada"}', "not_json: Expecting value"),
        ('{"name":"Ada"} Anything else?', "not_json: Extra data"),
        ('{"name":"Ad', "not_json: Unterminated string"),
        ("{'name': 'Ada'}", "not_json: Expecting property name"),
        (" \n", "not_json: the reply is blank"),
        ("```json\n```", "not_json: the reply is blank"),
        ('```python\n{"name": "Ada"}\n```', "not_json: "),
        ('{"name":"Ada","age":NaN}', "not_json: NaN is no number that JSON readers take"),
        ('{"name":"Ada","age":-Infinity}', "not_json: -Infinity is no number"),
        ('{"name":"Ada","age":1e999}', "not_json: 1e999 is no number"),
        ('{"name":"Ada","age":' + "9" * 5000 + "}", "not_json: 99999999999999999999 is no number"),
        ('{"name":"Ada","name":"Eve"}', "not_json: the name 'name' stands twice in one object"),
        ('{"name":"\\ud83d"}', "not_json: half of a surrogate pair stands in a text"),
        ("[" * 100_000, f"not_json: it is nested deeper than {MAX_DEPTH} levels"),
        ("[" * 100 + "]" * 100, f"not_json: it is nested deeper than {MAX_DEPTH} levels"),
        ("[]", 'schema_mismatch: $: [] is not of type "object"'),
        ("{}", 'schema_mismatch: $: "name" is a required property'),
        ('{"name":5}', 'schema_mismatch: $.name: 5 is not of type "string"'),
        ('{"name":"Ada","age":1.5}', 'schema_mismatch: $.age: 1.5 is not of type "integer"'),
    ],
    ids=lambda value: value[:40],
)
def test_what_does_not_match_is_invalid_with_what_is_wrong_and_where(
    record: Make, completion: Write, said: str, error: str
) -> None:
    value, status, found = read(chat(), record(chat(), completion(said)))
    assert (value, status) == (None, "invalid")
    assert found.startswith(error)
    assert found.isprintable()
    assert len(found) < 300


def test_a_json_object_is_an_object(record: Make, completion: Write) -> None:
    operation = chat({"type": "json_object"})
    assert read(operation, record(operation, completion("[1]"))) == (
        None,
        "invalid",
        "schema_mismatch: $: it is no object",
    )


@pytest.mark.parametrize(
    ("reply", "text", "status"),
    [
        ({"content": '{"name":"A', "finish": "length"}, '{"name":"A', "truncated"),
        ({"content": "<think>Hm", "finish": "length"}, None, "truncated"),
        ({"content": '{"name":"A', "finish": "content_filter"}, '{"name":"A', "filtered"),
        ({"content": None, "refusal": "No."}, None, "refused"),
        ({"content": None}, None, "empty"),
    ],
    ids=str,
)
def test_a_reply_that_is_no_answer_keeps_its_status_and_text(
    record: Make, completion: Write, reply: dict[str, Any], text: str | None, status: str
) -> None:
    assert read(chat(), record(chat(), completion(**reply)))[:2] == (text, status)


def test_an_invalid_reply_is_final_and_paid(completion: Write) -> None:
    verdict = chat().judge(completion("no JSON"))
    assert (verdict.kind, verdict.status, verdict.code, verdict.billed) == ("final", "invalid", "not_json", True)


def test_nesting_up_to_the_limit_is_taken() -> None:
    form = JsonForm.of(ANY_JSON)
    assert form is not None
    assert form.read("[" * MAX_DEPTH + "]" * MAX_DEPTH).code is None
    assert form.read("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).code == "not_json"
    assert form.read("[" + ",".join(["{}"] * 1000) + "]").code is None


# --- where it runs ----------------------------------------------------------------------------------------------------
def test_an_invalid_schema_is_an_error_when_the_operation_is_built() -> None:
    with pytest.raises(ConfigurationError, match="no valid JSON schema"):
        chat({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "objekt"}}})


def test_an_operation_with_a_schema_travels(record: Make, completion: Write) -> None:
    operation = pickle.loads(pickle.dumps(chat()))
    assert operation == chat()
    assert read(operation, record(operation, completion("{}")))[1] == "invalid"


def test_a_worker_without_jsonschema_rs_is_found_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = pickle.loads(pickle.dumps(chat()))
    validator_of.cache_clear()
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(ConfigurationError, match="on every worker"):
        operation.requests({"c": []}, 0)


@pytest.mark.parametrize("fields", [{"response_format": {"type": "json_object"}}, {}])
def test_without_a_schema_jsonschema_rs_is_not_needed(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    assert chat(body_fields=fields).requests({"c": []}, 0) == []
    assert chat(choice_format(["a", "b"]), choices=("a", "b")).requests({"c": []}, 0) == []


# --- whatever a model writes ------------------------------------------------------------------------------------------
HOSTILE = {
    "a long text": '{"name":"' + "x" * 10_000_000 + '"}',
    "a long text of the wrong kind": '{"age":"' + "x" * 1_000_000 + '"}',
    "a long name": '{"' + "x" * 1_000_000 + '":1}',
    "many items": "[" + ",".join(["{}"] * 200_000) + "]",
    "many names, one twice": "{" + ",".join(f'"{n}":1' for n in range(100_000)) + ',"99999":2}',
    "a long number": "9" * 1_000_000,
    "a long fraction": "0." + "9" * 1_000_000,
    "a long blank": " " * 1_000_000 + "x",
    "open texts": '"' * 1_000_001,
    "backslashes": '"' + "\\" * 1_000_001,
    "open fences": "```" * 300_001,
    "a tag that never ends": "<think>" * 100_000,
    "deep objects": '{"a":' * 50_000,
}


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
def test_no_hostile_text_makes_reading_fail_or_is_repeated(record: Make, completion: Write, said: str) -> None:
    body = completion(said)
    assert chat().judge(body).kind == "final"
    _, _, error = read(chat(), record(chat(), body))
    assert error is None or len(error) < 300


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_texts = st.text(st.characters()) | st.text(st.sampled_from('{}[]",:\\ud8001eENaN`<think/>\n'), max_size=60)


@_any_machine
@given(_texts | _json.map(json.dumps), st.sampled_from([ASKED, ANY_JSON, {"type": "json_object"}]))
def test_no_text_makes_judging_or_reading_fail(said: str, asked: Any) -> None:
    operation = chat(asked)
    choice = {"message": {"content": said}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    verdict = operation.judge(body)
    assert verdict.status in {"ok", "invalid", "empty"}
    if verdict.text is not None:
        assert verdict.text.isprintable()


@_any_machine
@given(_json)
def test_what_is_taken_reads_alike_everywhere(value: Any) -> None:
    form = JsonForm.of(ANY_JSON)
    assert form is not None
    text = json.dumps(value, ensure_ascii=True)
    reading = form.read(text)
    if reading.code is None:
        assert reading.text == text
        assert json.loads(text.encode(), parse_constant=pytest.fail) == value
    else:
        assert reading.code == "not_json"
