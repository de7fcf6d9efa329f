"""The strict rules: what breaks them, and the classes that are made to keep them."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from curator_llm.spec.json_schema import Validator
from curator_llm.spec.strict_schema import strict_breach, strict_schema

TEXT = {"type": "string"}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Node(BaseModel):
    """A tree."""

    left: Node | None = None
    right: Node = Field(description="never empty")


class Everything(BaseModel):
    title: str = "none"
    default: int | None = None
    pet: Cat | Dog = Field(discriminator="kind")
    colour: Colour = Field(Colour.RED, description="of the pet")
    tree: Node
    many: list[list[Cat]]


# --- classes ----------------------------------------------------------------------------------------------------------
def test_the_schema_of_a_class_keeps_the_strict_rules() -> None:
    strict = strict_schema(Everything.model_json_schema())
    assert strict_breach(strict) is None
    assert strict["required"] == ["title", "default", "pet", "colour", "tree", "many"]


def test_every_field_becomes_required_and_only_those_that_were_nullable_take_null() -> None:
    strict = strict_schema(Everything.model_json_schema())["properties"]
    assert {"type": "null"} in strict["default"]["anyOf"]
    assert strict["title"]["type"] == "string"


def test_defaults_go_and_fields_of_that_name_stay() -> None:
    strict = strict_schema(Everything.model_json_schema())
    assert '"default": ' in json.dumps(strict["properties"])
    assert "default" not in strict["properties"]["default"]


def test_a_choice_between_classes_becomes_any_of() -> None:
    pet = strict_schema(Everything.model_json_schema())["properties"]["pet"]
    assert pet["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert "discriminator" not in pet


def test_a_reference_stands_alone_and_what_stood_beside_it_is_kept() -> None:
    colour = strict_schema(Everything.model_json_schema())["properties"]["colour"]
    assert colour == {"anyOf": [{"$ref": "#/$defs/Colour"}], "description": "of the pet"}


def test_a_recursive_class_has_an_object_at_the_root() -> None:
    strict = strict_schema(Node.model_json_schema())
    assert strict["type"] == "object"
    assert strict_breach(strict) is None
    leaf = {"left": None, "right": None}
    assert Validator(json.dumps(strict)).complaint({"left": leaf, "right": leaf}, size=1, depth=1) is not None


def test_an_all_of_around_one_schema_is_unwrapped() -> None:
    part = {"allOf": [{"$ref": "#/$defs/a"}], "description": "d"}
    strict = strict_schema({**obj(x=part), "$defs": {"a": TEXT}})
    assert strict["properties"]["x"] == {"anyOf": [{"$ref": "#/$defs/a"}], "description": "d"}


def test_the_schema_that_is_given_is_not_changed() -> None:
    given_ = Everything.model_json_schema()
    before = json.dumps(given_)
    strict_schema(given_)
    assert json.dumps(given_) == before


_names = st.sampled_from(["a", "b", "title", "default", "items", "properties", "required", "anyOf"])
_leaves = st.sampled_from([str, int, float, bool, Literal["x", "y"], Colour, Cat, Node])


def _model(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = inner | inner.map(lambda kind: Optional[kind]) | st.tuples(inner, inner).map(lambda pair: Union[pair])  # noqa: UP007, UP045  types of run time
    field = st.tuples(kinds, st.sampled_from([Field(), Field(description="d"), Field(default=None)]))
    return st.dictionaries(_names, field, max_size=4).map(lambda fields: create_model("M", **fields))


_kinds = st.recursive(_leaves, lambda inner: _model(inner) | inner.map(lambda kind: list[kind]), max_leaves=6)


@settings(deadline=None, database=None, max_examples=60)
@given(_model(_kinds))
def test_whatever_class_is_given_its_schema_is_valid_and_strict(model: type[BaseModel]) -> None:
    strict = strict_schema(model.model_json_schema())
    assert strict_breach(strict) is None
    Validator(json.dumps(strict))
    assert strict_schema(strict) == strict


# --- breaches ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": TEXT}, "$ is no object"),
        ({"anyOf": [obj()]}, "$ is no object"),
        ({"type": "object", "properties": {}}, "$ allows other properties: add 'additionalProperties': False"),
        ({**obj(a=TEXT, b=TEXT), "required": ["a"]}, "$ does not require 'b': add it to 'required'"),
        (obj(a={"type": "object"}), "$.properties.a allows other properties"),
        (obj(a={"type": ["object", "null"]}), "$.properties.a allows other properties"),
        (obj(a={"type": "array"}), "$.properties.a is an array of anything: add 'items'"),
        (obj(a={"type": "array", "items": {}}), "$.properties.a.items does not say what it is: add a 'type'"),
        (obj(a=True), "$.properties.a does not say what it is"),
        (obj(a={"anyOf": [TEXT, {"type": "object"}]}), "$.properties.a.anyOf[1] allows other properties"),
        ({**obj(), "$defs": {"x": {"type": "object"}}}, "$.$defs.x allows other properties"),
        (obj(a={"oneOf": [TEXT], "type": "string"}), "$.properties.a has 'oneOf': use 'anyOf'"),
        (obj(a={"not": TEXT, "type": "string"}), "$.properties.a has 'not': write it without"),
    ],
    ids=str,
)
def test_the_first_breach_is_named_with_its_place_and_what_to_do(schema: dict[str, Any], said: str) -> None:
    assert (strict_breach(schema) or "").startswith(said)


def test_a_schema_that_keeps_the_rules_has_no_breach() -> None:
    inner = {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]}
    schema = obj(a=TEXT, b={"type": "array", "items": inner}, c={"enum": [1, "x"]}, d={"const": 1})
    assert strict_breach({**schema, "$defs": {"x": obj(y=TEXT)}}) is None


def test_a_deep_schema_is_looked_through() -> None:
    schema = TEXT
    for _ in range(5000):
        schema = obj(a=schema)
    assert strict_breach(schema) is None
