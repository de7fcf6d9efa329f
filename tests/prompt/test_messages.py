"""From tables to the messages arrays of requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.errors import ConfigurationError, PromptError
from curator_llm.prompt.cells import NULL_INPUT
from curator_llm.prompt.messages import ChatColumn, TemplatedMessages
from curator_llm.wire.exchange import Skip

_any_machine = settings(deadline=None, database=None, max_examples=100)
_text = st.text()


def templated(*contents: str) -> TemplatedMessages:
    roles = ["user"] if len(contents) == 1 else ["system", "user"]
    return TemplatedMessages.of([{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)])


def test_each_row_becomes_a_messages_array() -> None:
    rows = templated("Topic: {text}").encode({"text": ["a", 'say "b"']}, 2)
    assert rows == [b'[{"role":"user","content":"Topic: a"}]', b'[{"role":"user","content":"Topic: say \\"b\\""}]']


def test_all_messages_may_name_columns() -> None:
    source = templated("You speak {language}.", "{text} in {language}")
    assert source.columns == ("language", "text")
    rows = source.encode({"text": ["Hi"], "language": ["Latin"]}, 1)
    assert rows == [b'[{"role":"system","content":"You speak Latin."},{"role":"user","content":"Hi in Latin"}]']


def test_one_message_that_names_a_column_is_enough() -> None:
    assert templated("Be brief.", "{text}").columns == ("text",)


@_any_machine
@given(system=_text, text=_text)
def test_a_template_and_a_chat_column_that_say_the_same_give_equal_bytes(system: str, text: str) -> None:
    escaped = system.replace("{", "{{").replace("}", "}}")
    by_template = templated(escaped, "{text}").encode({"text": [text]}, 1)
    chat = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    assert by_template == ChatColumn("chat").encode({"chat": [chat]}, 1)
    assert by_template == ChatColumn("chat", system=system).encode({"chat": [chat[1:]]}, 1)


def test_a_row_with_an_unusable_cell_is_skipped_and_the_others_keep_their_place() -> None:
    rows = templated("{a} {b}").encode({"a": ["1", None, "3", b"4", "\ud83d"], "b": ["x", "y", None, "z", "z"]}, 5)
    assert rows[0] == b'[{"role":"user","content":"1 x"}]'
    assert rows[1] is rows[2] is NULL_INPUT
    assert [(row.status, row.code) for row in rows[3:] if isinstance(row, Skip)] == [
        ("rejected", "bad_cell"),
        ("rejected", "bad_text"),
    ]


@pytest.mark.parametrize("contents", [("Be brief.",), ("Be brief.", "Answer {{text}}.")])
def test_a_prompt_without_a_column_is_refused_and_printed(contents: tuple[str, ...]) -> None:
    with pytest.raises(PromptError) as raised:
        templated(*contents)
    assert "names no column" in str(raised.value)
    assert str(raised.value).endswith(contents[-1])


def test_no_messages_at_all_are_refused() -> None:
    with pytest.raises(PromptError, match="names no column"):
        TemplatedMessages.of([])


@pytest.mark.parametrize(
    "message",
    [
        {"content": "{text}"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": "{text}", "name": "x"},
        {"role": "\ud83d", "content": "{text}"},
        "{text}",
    ],
)
def test_a_templated_message_is_a_role_and_a_template(message: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'role': 'user', 'content'.*chat column"):
        TemplatedMessages.of([message])


def test_a_wrong_template_in_any_message_is_refused() -> None:
    with pytest.raises(PromptError, match="is not a column name"):
        templated("Answer as {}", "{text}")


def test_a_system_text_goes_before_chats_that_have_none() -> None:
    rows = ChatColumn("chat", system="Be {brief}.").encode({"chat": ['[{"role":"user","content":"Hi"}]']}, 1)
    assert rows == [b'[{"role":"system","content":"Be {brief}."},{"role":"user","content":"Hi"}]']


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_chat_keeps_the_system_message_it_has(role: str) -> None:
    chat = [{"role": role, "content": "Be long."}, {"role": "user", "content": "Hi"}]
    assert ChatColumn("chat", system="Be brief.").encode({"chat": [chat]}, 1) == ChatColumn("chat").encode(
        {"chat": [chat]}, 1
    )


def test_a_system_text_with_half_a_character_is_refused_when_the_stage_is_built() -> None:
    with pytest.raises(PromptError, match="lone surrogate"):
        ChatColumn("chat", system="\ud83d")


def test_bad_chats_are_skipped_and_the_others_keep_their_place() -> None:
    rows = ChatColumn("chat").encode({"chat": [None, "nonsense", [{"role": "user", "content": "Hi"}]]}, 3)
    assert [row.code for row in rows[:2] if isinstance(row, Skip)] == ["null_input", "bad_chat"]
    assert rows[2] == b'[{"role":"user","content":"Hi"}]'


@_any_machine
@given(st.lists(_text, max_size=4))
def test_whatever_the_text_the_bytes_are_json_that_holds_it(texts: list[str]) -> None:
    rows = templated("{text}").encode({"text": texts}, len(texts))
    assert [json.loads(row)[0]["content"] for row in rows if isinstance(row, bytes)] == texts
