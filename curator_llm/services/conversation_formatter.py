"""How a conversation becomes the one text that a server without a chat template takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class ConversationFormatter(ABC):
    """A way of writing a conversation as one text, so that the model can go on from there.

    Clients of servers that apply the chat template themselves (`OpenAIClient`, `AsyncOpenAIClient`) do not use one and
    say so with a ``UserWarning``.

    Examples
    --------
    >>> class Turns(ConversationFormatter):
    ...     def format_conversation(self, conv):
    ...         return "".join(f"<{turn['role']}>{turn['content']}" for turn in conv) + "<assistant>"
    >>> Turns().format_conversation([{"role": "user", "content": "Hello"}])
    '<user>Hello<assistant>'
    """

    @abstractmethod
    def format_conversation(self, conv: list[dict[str, Any]]) -> str:
        """Write a conversation as one text.

        Parameters
        ----------
        conv : list of dict
            Messages with ``role`` and ``content``, oldest first.

        Returns
        -------
        str
            The text to complete.
        """
        raise NotImplementedError
