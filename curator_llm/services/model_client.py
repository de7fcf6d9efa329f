"""What a client of a model server can be asked, blocking and in a loop.

This module covers the interfaces alone and loads no SDK. A client of one's own subclasses one of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from curator_llm.services.conversation_formatter import ConversationFormatter


class LLMClient(ABC):
    """A connection to a model server whose calls block until the answer is there.

    Examples
    --------
    >>> class Echo(LLMClient):
    ...     def query_model(self, *, messages, model, n=1, **generation):
    ...         return [message["content"] for message in messages][-1:] * n
    ...
    ...     def query_reward_model(self, *, messages, model, conversation_formatter=None):
    ...         return {"length": float(len(messages))}
    >>> Echo().query_model(messages=[{"role": "user", "content": "Hello"}], model="echo", n=2)
    ['Hello', 'Hello']
    """

    @abstractmethod
    def query_model(
        self,
        *,
        messages: Iterable[Any],
        model: str,
        conversation_formatter: ConversationFormatter | None = None,
        max_tokens: int | None = None,
        n: int | None = 1,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        stream: bool = False,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> list[str]:
        """Ask a model to go on with a conversation.

        Parameters
        ----------
        messages : iterable of dict
            The conversation: ``role`` and ``content``, oldest first.
        model : str
            The model, by the name the server knows it under.
        conversation_formatter : ConversationFormatter, optional
            Writes the conversation as one text, for a server without a chat template.
        max_tokens : int, optional
            The longest answer, in tokens.
        n : int, default 1
            How many answers.
        seed : int, optional
            For answers that can be repeated, where the server can.
        stop : str or list of str, optional
            Where an answer ends.
        stream : bool, default False
            Whether the answer is sent piece by piece. What is returned is the same.
        temperature : float, optional
            0 for the likeliest answer.
        top_k, top_p : int and float, optional
            From how many tokens, or from how much of the probability, each next token is drawn.

        Returns
        -------
        list of str
            The `n` answers.
        """
        raise NotImplementedError

    @abstractmethod
    def query_reward_model(
        self,
        *,
        messages: Iterable[Any],
        model: str,
        conversation_formatter: ConversationFormatter | None = None,
    ) -> dict[str, float]:
        """Have a reward model judge the last answer of a conversation.

        Parameters
        ----------
        messages : iterable of dict
            The conversation, the answer to judge at its end.
        model : str
            The reward model, by the name the server knows it under.
        conversation_formatter : ConversationFormatter, optional
            Writes the conversation as one text, for a server without a chat template.

        Returns
        -------
        dict of str to float
            The score of each attribute.
        """
        raise NotImplementedError


class AsyncLLMClient(ABC):
    """A connection to a model server whose calls are awaited.

    Examples
    --------
    >>> import asyncio
    >>> class Echo(AsyncLLMClient):
    ...     async def query_model(self, *, messages, model, n=1, **generation):
    ...         return [message["content"] for message in messages][-1:] * n
    ...
    ...     async def query_reward_model(self, *, messages, model, conversation_formatter=None):
    ...         return {"length": float(len(messages))}
    >>> asyncio.run(Echo().query_reward_model(messages=[{"role": "user", "content": "Hello"}], model="echo"))
    {'length': 1.0}
    """

    @abstractmethod
    async def query_model(
        self,
        *,
        messages: Iterable[Any],
        model: str,
        conversation_formatter: ConversationFormatter | None = None,
        max_tokens: int | None = None,
        n: int | None = 1,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        stream: bool = False,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> list[str]:
        """Ask a model to go on with a conversation; see `LLMClient.query_model`."""
        raise NotImplementedError

    @abstractmethod
    async def query_reward_model(
        self,
        *,
        messages: Iterable[Any],
        model: str,
        conversation_formatter: ConversationFormatter | None = None,
    ) -> dict[str, float]:
        """Have a reward model judge the last answer of a conversation; see `LLMClient.query_reward_model`."""
        raise NotImplementedError
