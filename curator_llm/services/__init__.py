"""One call by hand: the client API of NeMo Curator 0.9.

This package covers the interfaces (`LLMClient`, `AsyncLLMClient`, `ConversationFormatter`) and the clients around the
openai SDK (`OpenAIClient`, `AsyncOpenAIClient`). The SDK is loaded when one of the latter two is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curator_llm.services.conversation_formatter import ConversationFormatter
from curator_llm.services.model_client import AsyncLLMClient, LLMClient

if TYPE_CHECKING:
    from curator_llm.services.openai_client import AsyncOpenAIClient, OpenAIClient

__all__ = ["AsyncLLMClient", "AsyncOpenAIClient", "ConversationFormatter", "LLMClient", "OpenAIClient"]


def __getattr__(name: str) -> Any:
    if name in {"AsyncOpenAIClient", "OpenAIClient"}:
        from curator_llm.services import openai_client

        return getattr(openai_client, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
