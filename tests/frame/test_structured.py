"""Structured replies and reasoning from end to end, on pandas frames, against a server on loopback."""

from __future__ import annotations

import json
from typing import Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field

from curator_llm import Endpoint, QueryModel
from curator_llm.errors import ConfigurationError, RequestRefusedError
from curator_llm.testing import FakeServer, answer_to, choice_of


class Author(BaseModel):
    name: str
    born: int | None = None


class Book(BaseModel):
    title: str
    mood: Literal["grim", "merry"]
    authors: list[Author] = Field(default_factory=list)


def stage(server: FakeServer, response_format: object = None, **arguments) -> QueryModel:
    generation = {"temperature": 0} if response_format is None else {"response_format": response_format}
    endpoint = Endpoint("m", base_url=server.base_url)
    return QueryModel(endpoint, **{"prompt": "{text}", "output": "a", "generation": generation, **arguments})


def texts(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"text": pd.array(list(values), dtype="string[pyarrow]")})


# --- structured replies -----------------------------------------------------------------------------------------------
def test_a_pydantic_class_gives_rows_that_it_can_read(server):
    out = stage(server, Book)(texts("a", "b"))
    assert set(out["a__status"]) == {"ok"}
    books = [Book.model_validate_json(text) for text in out["a"]]
    assert [book.title for book in books] == [answer_to("a"), answer_to("b")]
    assert books[0].mood == choice_of("a", ["grim", "merry"])
    assert out["a"].dtype == "string[pyarrow]"


def test_what_is_sent_for_a_class_is_its_strict_schema(server):
    stage(server, Author)(texts("a"))
    assert server.ledger.bodies[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "Author",
            "strict": True,
            "schema": {
                "properties": {
                    "name": {"title": "Name", "type": "string"},
                    "born": {"anyOf": [{"type": "integer"}, {"type": "null"}], "title": "Born"},
                },
                "required": ["name", "born"],
                "title": "Author",
                "type": "object",
                "additionalProperties": False,
            },
        },
    }


def test_a_class_and_its_schema_are_the_same_request(server):
    stage(server, Author)(texts("a"))
    stage(server, server.ledger.bodies[0]["response_format"])(texts("a"))
    assert server.ledger.requests == 1


def test_replies_that_do_not_match_are_invalid_and_the_others_are_kept(server):
    good = '{"name": "Ada", "born": null}'
    server.change(
        answer={"a": good, "b": '{"name": "Ada", "born": "1815"}', "c": "Ada", "d": f"```json\n{good}\n```"}.get
    )
    out = stage(server, Author)(texts(*"abcd"))
    assert out["a"].tolist() == [good, pd.NA, pd.NA, good]
    assert out["a__status"].tolist() == ["ok", "invalid", "invalid", "ok"]
    assert out["a__error"][1].startswith("schema_mismatch: $.born: ")
    assert out["a__error"][2].startswith("not_json: ")


def test_a_rerun_of_structured_rows_sends_nothing_and_gives_the_identical_frame(server):
    server.change(answer={"a": "no JSON"}.get)
    df = texts("a", "b")
    first = stage(server, Author)(df)
    pd.testing.assert_frame_equal(stage(server, Author)(df), first)
    assert server.ledger.requests == 2


def test_a_truncated_reply_keeps_what_there_is_of_its_json(server):
    server.change(faults=lambda prompt, attempt: "finish_length", answer='{"name": "A')
    out = stage(server, Author)(texts("a"))
    assert (out["a"][0], out["a__status"][0]) == ('{"name": "A', "truncated")


@pytest.mark.parametrize("broken", [{"type": "objekt"}, {"$ref": "#/$defs/no"}, {"type": "object"}])
def test_a_schema_that_cannot_work_is_an_error_before_anything_is_sent(server, broken):
    with pytest.raises(ConfigurationError, match="`response_format`"):
        stage(server, broken)
    assert server.ledger.requests == 0


def test_choices_and_a_response_format_are_one_too_many(server):
    with pytest.raises(ConfigurationError, match="drop one"):
        stage(server, Author, choices=["a", "b"])


# --- a server that refuses the schema ---------------------------------------------------------------------------------
@pytest.mark.parametrize("arguments", [{"response_format": Author}, {"choices": ["a", "b"]}])
def test_a_schema_that_the_server_refuses_costs_one_request_and_one_error(server, arguments):
    server.change(faults=lambda prompt, attempt: "refused_schema")
    with pytest.raises(RequestRefusedError) as raised:
        stage(server, **arguments)(texts(*(str(n) for n in range(200))))
    message = str(raised.value)
    assert "refuses the response_format" in message
    assert "'uniqueItems' is not permitted" in message
    assert server.base_url in message
    assert raised.value.__cause__ is None
    assert server.ledger.requests == 1


def test_after_the_server_has_changed_its_mind_the_rows_are_asked_again(server):
    server.change(faults=lambda prompt, attempt: "refused_schema")
    with pytest.raises(RequestRefusedError):
        stage(server, Author)(texts("a"))
    server.change(faults=None)
    assert stage(server, Author)(texts("a"))["a__status"].tolist() == ["ok"]


# --- reasoning --------------------------------------------------------------------------------------------------------
def test_reasoning_is_kept_apart_and_free_later(server):
    server.change(answer=lambda prompt: f"<think>\nabout {prompt}\n</think>\n\nyes")
    df = texts("a", "b")
    assert stage(server)(df)["a"].tolist() == ["yes", "yes"]
    out = stage(server, details=["reasoning"])(df)
    assert out["a__reasoning"].tolist() == ["about a", "about b"]
    assert server.ledger.requests == 2


def test_reasoning_comes_off_before_choices_and_schemas_are_looked_at(server):
    server.change(answer=lambda prompt: '<think>Hm.</think>{"choice": "yes"}')
    assert stage(server, choices=["yes", "no"])(texts("a"))["a"].tolist() == ["yes"]
    server.change(answer=lambda prompt: '<think>Hm.</think>{"name": "Ada", "born": 1815}')
    assert json.loads(stage(server, Author)(texts("a"))["a"][0]) == {"name": "Ada", "born": 1815}


def test_reasoning_without_an_answer_is_an_empty_row(server):
    server.change(answer="<think>Hm.")
    out = stage(server, details=["reasoning"])(texts("a"))
    assert out["a"].isna().all()
    assert out["a__status"].tolist() == ["empty"]
    assert out["a__error"].tolist() == ["only_reasoning: the reply is reasoning without an answer"]
    assert out["a__reasoning"].tolist() == ["Hm."]


# --- max_completion_tokens --------------------------------------------------------------------------------------------
def test_max_completion_tokens_is_sent_under_its_own_name(server):
    server.change(only_max_completion_tokens=True)
    out = stage(server, generation={"max_completion_tokens": 3}, details=["output_tokens"])(texts("a", "b"))
    assert [body["max_completion_tokens"] for body in server.ledger.bodies] == [3, 3]
    assert out["a__output_tokens"].max() <= 3
    assert 400 not in server.ledger.by_status
