"""Chat columns: lists of messages, or the same as JSON text."""

from __future__ import annotations

import json
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.prompt.cells import NULL_INPUT
from curator_llm.prompt.chat_columns import chat_messages, encode_messages
from curator_llm.wire.exchange import Skip

_any_machine = settings(deadline=None, database=None, max_examples=100)
_text = st.text()
_chats = st.lists(
    st.fixed_dictionaries({"role": _text, "content": _text | st.none()}, optional={"name": _text}),
    min_size=1,
    max_size=3,
)

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
BYTES = b'[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]'


def encoded(value: Any) -> bytes | Skip:
    messages = chat_messages(value)
    return messages if isinstance(messages, Skip) else encode_messages(messages)


def skip_of(value: Any) -> Skip:
    found = encoded(value)
    assert isinstance(found, Skip)
    return found


@pytest.mark.parametrize(
    "value",
    [
        CHAT,
        tuple(CHAT),
        np.array(CHAT, dtype=object),
        [dict(reversed(message.items())) for message in CHAT],
        [OrderedDict(message) for message in CHAT],
        [MappingProxyType(message) for message in CHAT],
        [{**message, "name": None, "tool_calls": None} for message in CHAT],
        json.dumps(CHAT),
        json.dumps(CHAT, indent=2),
        '[{"content":"Be brief.","role":"system"},{"content":"Hi","role":"user","name":null}]',
    ],
)
def test_equal_chats_give_equal_bytes_in_whatever_form_they_come(value: Any) -> None:
    assert encoded(value) == BYTES


@_any_machine
@given(_chats)
def test_a_chat_and_its_json_text_give_equal_bytes(chat: list[dict[str, Any]]) -> None:
    found = encoded(chat)
    assert found == encoded(json.dumps(chat)) == encoded(json.dumps(chat, ensure_ascii=False, sort_keys=True))
    assert [message["content"] for message in json.loads(found)] == [message["content"] for message in chat]


def test_the_nulls_that_arrow_adds_to_structs_are_not_sent() -> None:
    chats = [
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}],
            }
        ],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}],
    ]
    column = pd.Series([chats[0]], dtype=pd.ArrowDtype(pa.array([chats[0]]).type))
    assert encoded(column.iloc[0]) == encoded(json.dumps(chats[0]))
    assert b"null" not in (encoded(column.iloc[0]))  # type: ignore[operator]
    assert encoded(chats[1]) == b'[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function"}]}]'


def test_other_fields_follow_in_the_order_of_their_names() -> None:
    message = {"tool_call_id": "7", "name": "f", "content": "x", "role": "tool"}
    assert encoded([message]) == b'[{"role":"tool","content":"x","name":"f","tool_call_id":"7"}]'


def test_a_null_cell_is_skipped() -> None:
    assert chat_messages(None) is NULL_INPUT


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "an empty list"),
        ("[]", "an empty list"),
        (np.array([]), "an empty list"),
        ({"role": "user", "content": "x"}, "holds dict"),
        ('{"role": "user", "content": "x"}', "holds dict"),
        ("5", "holds int"),
        (7.5, "holds float"),
        (["hello"], "has no role"),
        ([{"content": "x"}], "has no role"),
        ([{"role": None, "content": "x"}], "has no role"),
        ([{"role": "user", 5: "x"}], "cannot be written as JSON"),
        ([{"role": "user", "content": object()}], "cannot be written as JSON"),
        ("Hello, how are you?", "text that is not JSON"),
        ("", "text that is not JSON"),
        ('[{"role": "user"', "text that is not JSON"),
    ],
)
def test_what_is_no_chat_is_rejected_and_told_what_a_chat_is(value: Any, said: str) -> None:
    skip = skip_of(value)
    assert (skip.status, skip.code) == ("rejected", "bad_chat")
    assert said in skip.text
    assert "[{'role': 'user', 'content': '...'}]" in skip.text


@pytest.mark.parametrize(
    "value",
    [
        str(CHAT),
        str([{"role": "user", "content": "it's"}]),
        repr(tuple(CHAT)),
        repr(np.array(CHAT, dtype=object)),
        str(np.array(CHAT, dtype=object)),
    ],
)
def test_a_chat_that_became_text_on_the_way_is_rejected_with_what_to_change(value: str) -> None:
    skip = skip_of(value)
    assert skip.code == "bad_chat"
    assert "json.dumps" in skip.text
    assert "dataframe.convert-string" in skip.text


@pytest.mark.parametrize(
    "value", [[{"role": "user", "content": "\ud83d"}], [{"role": "\ud83d"}], '[{"role": "user", "content": "\ud83d"}]']
)
def test_half_a_character_is_bad_text(value: Any) -> None:
    skip = skip_of(value)
    assert (skip.status, skip.code) == ("rejected", "bad_text")


@pytest.mark.parametrize("value", ["[" * 100_000, '[{"role":"user","content":' + "[" * 600 + "]" * 600 + "}]"])
def test_json_that_is_nested_too_deep_is_no_crash(value: str) -> None:
    found = encoded(value)
    assert isinstance(found, bytes) or found.code == "bad_chat"
