"""A request as a call of an `LLMClient`'s method, and what the method returns as the body of a chat completion.

So everything behind the transport stays the same: verdicts, journal, columns. What a client does not tell (finish
reason, usage, the model's own name) is not in the body. Pure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from curator_llm.errors import ConfigurationError
from curator_llm.operations.base import ClientMethod
from curator_llm.wire.envelopes import clean_text

#: A completion that says nothing; of a reward model: one without scores.
NO_CONTENT = b'{"choices":[{"index":0,"message":{"content":null}}]}'


class NotACompletionError(ValueError):
    """The method returned something else than it promises."""


class Calls:
    """Calls of one method of a client.

    Parameters
    ----------
    client : LLMClient or AsyncLLMClient
    method : {"query_model", "query_reward_model"}
    """

    def __init__(self, client: Any, method: ClientMethod) -> None:
        self.call: Callable[..., Any] = getattr(client, method)
        self._name = f"{type(client).__name__}.{method}"
        self._wrap = _reply_of_texts if method == "query_model" else _reply_of_scores
        try:
            parameters = list(inspect.signature(self.call).parameters.values())
        except ValueError:  # a compiled method without a signature
            parameters = [inspect.Parameter("parameters", inspect.Parameter.VAR_KEYWORD)]
        self._takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._accepted = [parameter.name for parameter in parameters if parameter.kind in named]

    def parameters(self, body: bytes) -> dict[str, Any]:
        """Return the fields of a request's body as parameters.

        Raises
        ------
        ConfigurationError
            When the method does not accept one.
        """
        fields: dict[str, Any] = msgspec.json.decode(body)
        refused = [] if self._takes_all else [name for name in fields if name not in self._accepted]
        if refused:
            msg = (
                f"{self._name} does not accept {refused[0]!r}, only {', '.join(self._accepted)}: leave it out of the "
                "stage and the endpoint, or return an openai.AsyncOpenAI from the factory for the rest."
            )
            raise ConfigurationError(msg)
        return fields

    def body(self, returned: Any) -> bytes:
        """Return a chat completion that holds what the method returned.

        Raises
        ------
        NotACompletionError
        """
        try:
            return self._wrap(returned)
        except (TypeError, ValueError, OverflowError, AttributeError):
            said = f"{self._name} returned a {type(returned).__name__} that is not what LLMClient promises"
            raise NotACompletionError(said) from None


def _reply_of_texts(texts: Any) -> bytes:
    if not isinstance(texts, list | tuple):
        raise TypeError
    choices = []
    for index, text in enumerate(texts):
        if not isinstance(text, str | None):
            raise TypeError
        content = None if text is None else clean_text(text)
        choices.append({"index": index, "message": {"content": content}})
    return msgspec.json.encode({"choices": choices})


def _reply_of_scores(scores: Any) -> bytes:
    if not isinstance(scores, Mapping):
        raise TypeError
    logprobs = [{"token": clean_text(name), "logprob": float(score)} for name, score in scores.items()]
    choice = {"index": 0, "message": {"content": None}, "logprobs": {"content": logprobs}}
    return msgspec.json.encode({"choices": [choice]})
