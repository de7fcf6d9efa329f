"""JSON schemas as validators: offline, in linear time, and with short complaints."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.spec.json_schema import MAX_DEPTH, Validator, place, validator_of
from curator_llm.testing import FakeServer

REF = {"$ref": "#/$defs/n"}
RECURSIVE = {
    "$defs": {
        "n": {
            "anyOf": [
                {"type": "object", "properties": {"c": REF}, "required": ["c"]},
                {"type": "object", "properties": {"c": REF, "x": {"type": "string"}}, "required": ["c"]},
                {"type": "null"},
            ]
        }
    },
    "type": "object",
    "properties": {"c": REF},
}


def complaint(schema: Any, value: Any) -> str | None:
    text = json.dumps(value)
    depth = text.count("{") + text.count("[")
    return Validator(json.dumps(schema)).complaint(value, size=len(text), depth=depth)


def refusal(schema: Any) -> str:
    with pytest.raises(ConfigurationError) as raised:
        Validator(json.dumps(schema))
    return str(raised.value)


def nested(levels: int, leaf: Any, name: str = "c") -> Any:
    value = leaf
    for _ in range(levels):
        value = {name: value}
    return value


# --- what is no schema ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"type": "objekt"}}}, '$.properties.a.type: "objekt" is not valid'),
        ({"properties": {"a b": {"minLength": -1}}}, '$.properties["a b"].minLength: -1 is less than'),
        ({"properties": {"a": {"pattern": "["}}}, "is not a"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "look-around and back-references are not taken"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, "'/$defs/no' does not exist"),
        ({"$schema": "https://example.com/mine"}, "Unknown meta-schema"),
        ([1], "not of types"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_valid_schema_is_refused_with_its_place(schema: Any, said: str) -> None:
    message = refusal(schema)
    assert "no valid JSON schema" in message
    assert said in message


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    assert "no valid JSON schema" in refusal(nested(500, {}, "not"))


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema"])
def test_nothing_is_fetched_from_a_server(server: FakeServer, keyword: str) -> None:
    for schema in ({keyword: server.base_url}, {"$defs": {"unused": {keyword: server.base_url}}, "$ref": "#/$defs/u"}):
        refusal(schema)
    refusal({"$id": server.base_url, "properties": {"a": {"$ref": "other"}}})
    assert server.ledger.requests == 0


def test_nothing_is_read_from_a_file(tmp_path: Any) -> None:
    file = tmp_path / "text.json"
    file.write_text('{"type": "string"}')
    assert "Retrieval is disabled" in refusal({"properties": {"a": {"$ref": file.as_uri()}}})


def test_without_jsonschema_rs_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'curator-llm\[schema\]', on every worker"):
        Validator("{}")


def test_a_schema_is_compiled_once_per_process() -> None:
    assert validator_of('{"type": "null"}') is validator_of('{"type": "null"}')


# --- what does not match ----------------------------------------------------------------------------------------------
ITEMS = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"unit price": {"type": "number"}}, "required": ["unit price"]},
        }
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"items": []}, None),
        ({"items": [{"unit price": 5}]}, None),
        ([], '$: [] is not of type "object"'),
        ({"items": [{}]}, '$.items[0]: "unit price" is a required property'),
        ({"items": [{"unit price": 1}, {"unit price": "x"}]}, '$.items[1]["unit price"]: "x" is not of type "number"'),
        ({"other": 1}, "$: Additional properties are not allowed ('other' was unexpected)"),
    ],
)
def test_a_complaint_says_where_and_what(value: Any, said: str | None) -> None:
    assert complaint(ITEMS, value) == said


@pytest.mark.parametrize(
    "value",
    [{"items": "x" * 5000}, {"x\n\x1b" * 5000: 1}, {"items": ["x" * 90_000]}, {"items": [{"unit price": "é" * 300}]}],
)
def test_a_complaint_is_one_short_printable_line(value: Any) -> None:
    said = complaint(ITEMS, value)
    assert said is not None
    assert said.isprintable()
    assert len(said) < 160
    assert "xxxx" * 20 not in said


def test_in_a_large_reply_the_place_is_not_looked_for() -> None:
    assert complaint(ITEMS, {"items": ["x" * 200_000]}) == "it does not match the schema (too large to say where)"


def test_a_recursive_schema_is_checked_in_linear_time() -> None:
    assert complaint(RECURSIVE, nested(MAX_DEPTH, None)) is None
    assert complaint(RECURSIVE, nested(MAX_DEPTH, 5)) == "it does not match the schema (too large to say where)"


def test_a_small_reply_to_a_recursive_schema_has_its_place() -> None:
    assert (complaint(RECURSIVE, nested(2, 5)) or "").startswith("$.c: ")


@pytest.mark.parametrize("reference", ["#", "#/properties/a", "#anchor"])
def test_references_of_any_kind_may_be_recursive(reference: str) -> None:
    schema = {"properties": {"a": {"type": "object"}, "b": {"$ref": reference}}, "$defs": {"x": {"$anchor": "anchor"}}}
    assert Validator(json.dumps(schema))._is_recursive
    assert not Validator(
        json.dumps({"$defs": {"x": {}, "y": {"$ref": "#/$defs/x"}}, "$ref": "#/$defs/y"})
    )._is_recursive


def test_the_deepest_reply_that_is_checked_fits_a_small_stack() -> None:
    found: list[str | None] = []
    validator = Validator(json.dumps(RECURSIVE))
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(
            target=lambda: found.append(validator.complaint(nested(MAX_DEPTH, 5), size=1, depth=MAX_DEPTH))
        )
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert found == ["it does not match the schema (too large to say where)"]


def test_a_pattern_cannot_be_made_to_hang() -> None:
    evil = {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}
    assert complaint(evil, {"a": "a" * 90_000 + "b"}) is not None
    assert complaint(evil, {"a": "a" * 90_000}) is None


def test_unique_items_that_would_be_compared_each_with_each_are_refused() -> None:
    schema = {"items": {"type": "array", "uniqueItems": True}}
    long = [[2**63 + number] for number in range(50)]
    assert complaint(schema, [long]) is None
    assert (complaint(schema, [[*long, [-(2**63) - 1]]]) or "").startswith("with uniqueItems, more than 50 integers")
    assert complaint(schema, [list(range(2**63 - 1000, 2**63))]) is None


def test_a_format_is_a_note_and_not_checked() -> None:
    assert complaint({"type": "string", "format": "date-time"}, "tomorrow") is None


def test_a_place_is_written_as_one_would_reach_for_it() -> None:
    assert place([]) == "$"
    assert place(["a", 0, "b c", "d"]) == '$.a[0]["b c"].d'
