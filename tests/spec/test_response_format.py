"""What may be given as a response_format, and what is sent."""

from __future__ import annotations

import enum
import pickle
from typing import Any, ClassVar, Generic, Literal, TypeVar

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, RootModel

from curator_llm import GenerationConfig
from curator_llm.errors import ConfigurationError
from curator_llm.spec.response_format import response_format_of, schema_text
from curator_llm.testing import FakeServer

T = TypeVar("T")
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


class Person(BaseModel):
    name: str
    mood: Literal["good", "bad"] | None = None


def asked(schema: Any = PERSON, **changes: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, **changes}}


def refusal(value: Any) -> str:
    with pytest.raises(ConfigurationError) as raised:
        GenerationConfig(response_format=value)
    assert raised.value.__cause__ is None
    return str(raised.value)


# --- what is sent -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "value",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_object", "schema": PERSON},
        asked(),
        asked(strict=True),
        asked({"type": "array"}, strict=False),
        asked({"type": "object"}, strict=None, description="a person"),
        {"type": "structural_tag", "structures": []},
        {"type": "grammar", "grammar": "root ::= x"},
    ],
    ids=str,
)
def test_what_the_api_and_servers_take_is_sent_as_it_is(value: dict[str, Any]) -> None:
    assert response_format_of(value) == value


def test_a_schema_alone_is_wrapped_as_a_strict_one() -> None:
    assert response_format_of(PERSON) == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": PERSON},
    }


def test_the_title_of_a_schema_becomes_its_name() -> None:
    assert response_format_of({**PERSON, "title": "Ein Mensch!"})["json_schema"]["name"] == "Ein_Mensch_"


def test_a_pydantic_class_becomes_its_strict_schema() -> None:
    sent = response_format_of(Person)
    assert sent["json_schema"]["name"] == "Person"
    assert sent["json_schema"]["strict"] is True
    schema = sent["json_schema"]["schema"]
    assert schema["required"] == ["name", "mood"]
    assert schema["additionalProperties"] is False


def test_the_name_of_a_generic_class_is_made_to_fit() -> None:
    class Box(BaseModel, Generic[T]):
        inside: T

    assert response_format_of(Box[int])["json_schema"]["name"] == "Box_int_"


def test_a_config_with_a_class_travels_without_the_class_and_is_one_line() -> None:
    config = GenerationConfig(response_format=Person)
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config == GenerationConfig.of(config.body_fields())
    assert b"test_response_format" not in pickle.dumps(config)
    assert "\n" not in repr(config)


def test_the_bytes_of_a_class_are_always_the_same() -> None:
    class Colour(enum.Enum):
        RED = "red"
        BLUE = "blue"

    class Paint(BaseModel):
        colour: Colour

    sent = msgspec.json.encode(response_format_of(Paint))
    assert sent == msgspec.json.encode(response_format_of(Paint))
    assert sent == (
        b'{"type":"json_schema","json_schema":{"name":"Paint","strict":true,"schema":{"$defs":{"Colour":{"enum":["red",'
        b'"blue"],"title":"Colour","type":"string"}},"properties":{"colour":{"$ref":"#/$defs/Colour"}},'
        b'"required":["colour"],"title":"Paint","type":"object","additionalProperties":false}}}'
    )


def test_a_config_does_not_change_with_the_dict_it_was_made_of() -> None:
    mine = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    config = GenerationConfig(response_format=mine)
    mine["properties"]["late"] = {}
    assert config.body_fields()["response_format"]["json_schema"]["schema"]["properties"] == {}


def test_the_schema_is_found_in_all_three_forms() -> None:
    assert schema_text({"type": "json_object"}) is None
    assert schema_text({"type": "json_object", "schema": {"a": 1}}) == '{"a": 1}'
    assert schema_text(asked({"a": 1})) == '{"a": 1}'


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("json_object", "`response_format` is 'json_object': give a dict"),
        (5, "`response_format` is 5: give a dict"),
        (dict, "is dict, no model class: derive it from pydantic 2's BaseModel"),
        ({"type": "json_shema"}, "has the type 'json_shema'. Did you mean 'json_schema'?"),
        ({"type": "jsonschema"}, "Did you mean 'json_schema'?"),
        ({"type": "objekt"}, "has the type 'objekt'. Did you mean 'object'?"),
        ({"type": "json_schema"}, "has the type 'json_schema' and no schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "and no schema"),
        (asked(name="two words"), "has the name 'two words': give 1 to 64"),
        (asked(name=""), "has the name ''"),
        (asked(name="x" * 65), "give 1 to 64"),
        (asked(name=None), "has the name None"),
        (asked(strict="yes"), "strict='yes': give true or false"),
        (asked({"type": "objekt"}), '$.type: "objekt" is not valid'),
        (asked({"properties": {"a": {"$ref": "#/$defs/a"}}}), "no valid JSON schema"),
        ({"type": "json_object", "schema": {"type": "objekt"}}, "no valid JSON schema"),
        (asked({"type": "object"}, strict=True), "is strict, and $ allows other properties: add"),
        ({"type": "object", "properties": {"a": {}}}, "'strict': False"),
        ({"type": "array", "items": {"type": "string"}}, "$ is no object: make it a property of one"),
        ({"type": {"a": 1}, "x": {1, 2}}, "JSON cannot carry"),
        ({}, "is strict, and $ is no object"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_work_is_refused_with_what_to_give(value: Any, said: str) -> None:
    assert said in refusal(value)


def test_a_class_of_pydantic_1_is_refused_as_such() -> None:
    class Old:  # what tells them; pydantic 1 itself does not run on every Python
        __fields__: ClassVar[dict[str, Any]] = {}
        parse_obj = None

    assert "is Old, a class of pydantic 1: derive it from pydantic 2's BaseModel" in refusal(Old)


def test_an_object_instead_of_its_class_is_refused() -> None:
    assert "is an object of Person: give the class" in refusal(Person(name="x"))


def test_a_class_without_a_json_schema_is_refused() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: object = None
        call: type(lambda: 0)  # type: ignore[valid-type]

    assert "is Odd, which has no JSON schema" in refusal(Odd)


def test_a_class_with_free_names_is_refused_with_their_place() -> None:
    class Counts(BaseModel):
        counts: dict[str, int]

    assert "$.properties.counts allows other properties" in refusal(Counts)


def test_a_class_that_is_no_object_is_refused() -> None:
    assert "$ is no object" in refusal(RootModel[list[int]])


def test_a_refused_schema_sends_nothing(server: FakeServer) -> None:
    refusal(asked({"properties": {"a": {"$ref": server.base_url}}}))
    assert server.ledger.requests == 0
