"""A request's body as text that people read."""

from __future__ import annotations

import json
from typing import Any

#: How much of each text is shown.
_MOST_CHARACTERS = 600


def messages_text(body: bytes) -> str:
    """Return the messages of a request; long texts are cut.

    Examples
    --------
    >>> messages_text(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
    'user: Hi'
    """
    messages = json.loads(body)["messages"]
    return "\n".join(f"{message.get('role')}: {_cut(message.get('content'))}" for message in messages)


def request_text(body: bytes) -> str:
    """Return a request: its messages, then everything else; long texts are cut.

    Examples
    --------
    >>> print(request_text(b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":8}'))
    user: Hi
    (model m, max_tokens 8)
    """
    others = (f"{name} {_cut(value)}" for name, value in json.loads(body).items() if name != "messages")
    return f"{messages_text(body)}\n({', '.join(others)})"


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS]}… ({len(text):,} characters)"
