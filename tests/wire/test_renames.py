"""The two names of a reply's length limit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.wire.renames import renamed

OLD, NEW = "max_tokens_renamed", "max_completion_tokens_renamed"


def test_max_tokens_is_renamed_in_place_and_nothing_else_changes() -> None:
    sent = b'{"model":"m","messages":[{"role":"user","content":"max_tokens \\u00e4 1.0"}],"max_tokens":8,"seed":1.50}'
    assert renamed(sent, OLD) == sent.replace(b'"max_tokens":8', b'"max_completion_tokens":8')


def test_max_completion_tokens_is_renamed_the_other_way() -> None:
    sent = b'{"model":"m","max_completion_tokens":8,"seed":1.50}'
    assert renamed(sent, NEW) == b'{"model":"m","max_tokens":8,"seed":1.50}'
    assert renamed(renamed(sent, NEW), OLD) == sent


def test_without_the_name_or_a_refusal_the_body_is_the_same_object() -> None:
    for body, code in ((b'{"seed":1}', OLD), (b'{"max_tokens":8}', None), (b'{"max_tokens":8}', "bad_request")):
        assert renamed(body, code) is body


@settings(deadline=None, database=None, max_examples=100)
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.lists(st.booleans()), max_size=4))
def test_renaming_keeps_order_and_values(fields: dict[str, Any]) -> None:
    sent = {**fields, "max_tokens": 8, "z": 1}
    got = json.loads(renamed(msgspec.json.encode(sent), OLD))
    assert list(got) == ["max_completion_tokens" if name == "max_tokens" else name for name in sent]
    assert list(got.values()) == list(sent.values())
