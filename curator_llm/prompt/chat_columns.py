"""Chat columns: a list of role/content messages per cell, or the same as JSON text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from curator_llm.prompt.cells import BAD_TEXT, NULL_INPUT, canonical_json
from curator_llm.wire.exchange import Skip

_EXPECTED = "a list of messages such as [{'role': 'user', 'content': '...'}], or the same as JSON text"
_REPR = re.compile(r"\s*(array\()?[\[(]\s*\{\s*'")
_UNREADABLE = Skip(
    "rejected", "bad_chat", f"a message of the chat column cannot be written as JSON; it should be {_EXPECTED}"
)


def chat_messages(value: Any) -> list[dict[str, Any]] | Skip:
    """Return the messages of a cell in one form: role and content first, other fields sorted, null ones dropped.

    Examples
    --------
    >>> chat_messages('[{"content": "Hello", "role": "user", "name": null}]')
    [{'role': 'user', 'content': 'Hello'}]
    """
    try:
        return _messages(value)
    except (TypeError, RecursionError):  # names that are no text, or nested too deep
        return _UNREADABLE


def _messages(value: Any) -> list[dict[str, Any]] | Skip:
    if value is None:
        return NULL_INPUT
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except UnicodeEncodeError:
            return BAD_TEXT
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return _bad_chat_text(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not value:
        found = "an empty list" if isinstance(value, list | tuple) else type(value).__name__
        return Skip("rejected", "bad_chat", f"the chat column holds {found}; it should be {_EXPECTED}")
    messages = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            return Skip("rejected", "bad_chat", f"a message of the chat column has no role; it should be {_EXPECTED}")
        fields = {name: _without_nulls(message[name]) for name in sorted(message)}
        rest = {name: field for name, field in fields.items() if name not in {"role", "content"} and field is not None}
        messages.append({"role": message["role"], "content": fields.get("content"), **rest})
    return messages


def _without_nulls(value: Any) -> Any:
    """Drop null fields: Arrow's structs have all fields in all rows, JSON text has those that are there."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list | tuple) else value


def encode_messages(messages: list[dict[str, Any]]) -> bytes | Skip:
    """Encode checked messages; equal ones give equal bytes."""
    try:
        return b"[" + b",".join(_encode_message(message) for message in messages) + b"]"
    except UnicodeEncodeError:
        return BAD_TEXT
    except (TypeError, ValueError, RecursionError):
        return _UNREADABLE


def _encode_message(message: dict[str, Any]) -> bytes:
    pairs = (msgspec.json.encode(name) + b":" + canonical_json(field) for name, field in message.items())
    return b"{" + b",".join(pairs) + b"}"


def _bad_chat_text(text: str) -> Skip:
    if _REPR.match(text):
        advice = (
            "it looks like the Python repr of a list: Dask turns object columns into text. Store the column as JSON "
            "text (json.dumps), or set dataframe.convert-string to False before reading"
        )
        return Skip("rejected", "bad_chat", f"the chat column is not JSON; {advice}")
    return Skip("rejected", "bad_chat", f"the chat column holds text that is not JSON; it should be {_EXPECTED}")
