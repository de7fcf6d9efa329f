"""The interface that writes a conversation as one text."""

from __future__ import annotations

from typing import Any

import pytest

from curator_llm.services.conversation_formatter import ConversationFormatter


def test_a_formatter_without_format_conversation_cannot_be_made() -> None:
    class Nothing(ConversationFormatter):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()  # type: ignore[abstract]


def test_a_formatter_takes_a_conversation_and_gives_one_text() -> None:
    class Contents(ConversationFormatter):
        def format_conversation(self, conv: list[dict[str, Any]]) -> str:
            return " / ".join(turn["content"] for turn in conv)

    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    assert Contents().format_conversation(conv=chat) == "Hello / Hello!"
