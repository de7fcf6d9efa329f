"""The client API of NeMo Curator 0.9 around the clients of the openai SDK.

This module covers `OpenAIClient` and `AsyncOpenAIClient`. They hold no state but the SDK's client, so one serves
several threads (an ``AsyncOpenAI``: one loop). Exceptions of the SDK pass through as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from openai import NOT_GIVEN, NotGiven

from curator_llm.services.model_client import AsyncLLMClient, LLMClient
from curator_llm.wire.reward_scores import scores_from

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from curator_llm.services.conversation_formatter import ConversationFormatter


class OpenAIClient(LLMClient):
    """A client of any OpenAI-compatible server, around the openai SDK's client.

    Parameters
    ----------
    openai_client : openai.OpenAI
        Knows the server, the key, the timeout and the retries. A fake with the same methods will do.

    Attributes
    ----------
    client : openai.OpenAI
        The same.

    Examples
    --------
    With ``client = OpenAIClient(openai.OpenAI())`` the answer comes from the OpenAI API; here a fake gives it.

    >>> from unittest.mock import MagicMock
    >>> sdk = MagicMock()
    >>> sdk.chat.completions.create.return_value.choices = [MagicMock()]
    >>> sdk.chat.completions.create.return_value.choices[0].message.content = "Hello!"
    >>> client = OpenAIClient(sdk)
    >>> client.query_model(messages=[{"role": "user", "content": "Hello"}], model="gpt-4.1-mini")
    ['Hello!']
    """

    def __init__(self, openai_client: OpenAI) -> None:
        self.client = openai_client

    def query_model(
        self,
        *,
        messages: Iterable[Any],
        model: str,
        conversation_formatter: ConversationFormatter | None = None,
        max_tokens: int | NotGiven | None = NOT_GIVEN,
        n: int | NotGiven | None = NOT_GIVEN,
        seed: int | NotGiven | None = NOT_GIVEN,
        stop: str | list[str] | NotGiven | None = NOT_GIVEN,
        stream: bool | NotGiven | None = False,
        temperature: float | NotGiven | None = NOT_GIVEN,
        top_k: int | None = None,
        top_p: float | NotGiven | None = NOT_GIVEN,
    ) -> list[str]:
        """Ask a model to go on with a conversation. Costs one request (and the SDK's retries).

        Parameters
        ----------
        messages : iterable of dict
            The conversation: ``role`` and ``content``, oldest first.
        model : str
            The model, by the name the server knows it under.
        conversation_formatter, top_k : optional
            Not used: the server applies the chat template, and the OpenAI API has no top_k. A ``UserWarning`` if given.
        max_tokens, n, seed, stop, temperature, top_p : optional
            As in ``openai.OpenAI().chat.completions.create``; one that is not given is not sent.
        stream : bool, default False
            Whether the answer is sent piece by piece. What is returned is the same.

        Returns
        -------
        list of str
            The texts of the choices in the order of their ``index``. As in NeMo Curator, a choice without a text (a
            refusal, a tool call, a reply used up by reasoning) is None, which an empty text is not.

        Raises
        ------
        openai.OpenAIError
            From the SDK.
        ValueError
            If what came back is no chat completion, for example the HTML page at a wrong ``base_url``.
        """
        _warn_if_given("OpenAIClient", conversation_formatter=conversation_formatter, top_k=top_k)
        create: Any = self.client.chat.completions.create
        response = create(
            messages=messages,
            model=model,
            max_tokens=max_tokens,
            n=n,
            seed=seed,
            stop=stop,
            stream=stream,
            temperature=temperature,
            top_p=top_p,
        )
        if stream and not _is_whole(response):
            return _texts_of_stream(list(response), model)
        return _texts(response, model)

    def query_reward_model(  # type: ignore[override]  # NeMo Curator's takes no formatter here
        self, *, messages: Iterable[Any], model: str
    ) -> dict[str, float]:
        """Have a reward model judge the last answer of a conversation. Costs one request (and the SDK's retries).

        Parameters
        ----------
        messages : iterable of dict
            The conversation, the answer to judge at its end.
        model : str
            The reward model, by the name the server knows it under; not a model that writes text.

        Returns
        -------
        dict of str to float
            The score of each attribute, from the logprobs of the reply, else from its text (``helpfulness:1.2,…``;
            the score of a text that is one number is named ``score``). All are finite.

        Raises
        ------
        openai.OpenAIError
            From the SDK.
        ValueError
            If the reply has no scores, or is no chat completion.

        Examples
        --------
        >>> from unittest.mock import MagicMock
        >>> sdk = MagicMock()
        >>> sdk.chat.completions.create.return_value.choices = [MagicMock()]
        >>> sdk.chat.completions.create.return_value.choices[0].message.content = "helpfulness:1.6,verbosity:0.5"
        >>> chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
        >>> OpenAIClient(sdk).query_reward_model(messages=chat, model="nvidia/nemotron-4-340b-reward")
        {'helpfulness': 1.6, 'verbosity': 0.5}
        """
        return _scores(self.client.chat.completions.create(messages=messages, model=model), model)


class AsyncOpenAIClient(AsyncLLMClient):
    """`OpenAIClient` for code that runs in a loop, around the openai SDK's async client.

    Parameters
    ----------
    async_openai_client : openai.AsyncOpenAI
        Knows the server, the key, the timeout and the retries. A fake with the same methods will do.

    Attributes
    ----------
    client : openai.AsyncOpenAI
        The same.

    Examples
    --------
    >>> import asyncio
    >>> from unittest.mock import AsyncMock, MagicMock
    >>> sdk = MagicMock()
    >>> sdk.chat.completions.create = AsyncMock()
    >>> sdk.chat.completions.create.return_value.choices = [MagicMock()]
    >>> sdk.chat.completions.create.return_value.choices[0].message.content = "Hello!"
    >>> client = AsyncOpenAIClient(sdk)
    >>> asyncio.run(client.query_model(messages=[{"role": "user", "content": "Hello"}], model="gpt-4.1-mini"))
    ['Hello!']
    """

    def __init__(self, async_openai_client: AsyncOpenAI) -> None:
        self.client = async_openai_client

    async def query_model(
        self,
        *,
        messages: Iterable[Any],
        model: str,
        conversation_formatter: ConversationFormatter | None = None,
        max_tokens: int | NotGiven | None = NOT_GIVEN,
        n: int | NotGiven | None = NOT_GIVEN,
        seed: int | NotGiven | None = NOT_GIVEN,
        stop: str | list[str] | NotGiven | None = NOT_GIVEN,
        stream: bool | NotGiven | None = False,
        temperature: float | NotGiven | None = NOT_GIVEN,
        top_k: int | None = None,
        top_p: float | NotGiven | None = NOT_GIVEN,
    ) -> list[str]:
        """Ask a model to go on with a conversation; parameters, result and errors of `OpenAIClient.query_model`."""
        _warn_if_given("AsyncOpenAIClient", conversation_formatter=conversation_formatter, top_k=top_k)
        create: Any = self.client.chat.completions.create
        response = await create(
            messages=messages,
            model=model,
            max_tokens=max_tokens,
            n=n,
            seed=seed,
            stop=stop,
            stream=stream,
            temperature=temperature,
            top_p=top_p,
        )
        if stream and not _is_whole(response):
            return _texts_of_stream([chunk async for chunk in response], model)
        return _texts(response, model)

    async def query_reward_model(  # type: ignore[override]  # NeMo Curator's takes no formatter here
        self, *, messages: Iterable[Any], model: str
    ) -> dict[str, float]:
        """Have a reward model judge the last answer of a conversation; see `OpenAIClient.query_reward_model`."""
        return _scores(await self.client.chat.completions.create(messages=messages, model=model), model)


def _warn_if_given(client: str, **unused: object) -> None:
    for name, value in unused.items():
        if value is not None:
            warnings.warn(f"{name} is not used in an {client}", stacklevel=3)


def _is_whole(response: object) -> bool:
    """Tell a completion from a stream: some gateways and fakes do not know streams and answer at once."""
    return isinstance(getattr(response, "choices", None), Sequence)


def _not_a_completion(model: str, came: str) -> ValueError:
    msg = (
        f"The answer for {model!r} is no chat completion: {came}. "
        "Check the base_url of the SDK's client; for most servers it ends in /v1."
    )
    return ValueError(msg)


def _choices(response: object, model: str) -> list[Any]:
    choices = getattr(response, "choices", None)
    if choices is None:
        raise _not_a_completion(model, f"{type(response).__name__} without choices")
    return list(choices)


def _content(choice: object) -> Any:
    return getattr(getattr(choice, "message", None), "content", None)


def _texts(response: object, model: str) -> list[str]:
    choices = _choices(response, model)
    if all(isinstance(getattr(choice, "index", None), int) for choice in choices):
        choices.sort(key=lambda choice: choice.index)
    return [_content(choice) for choice in choices]


def _texts_of_stream(chunks: list[Any], model: str) -> list[str]:
    if not chunks:
        raise _not_a_completion(model, "a stream without events")
    pieces: dict[int, list[str]] = {}
    for chunk in chunks:
        for position, choice in enumerate(getattr(chunk, "choices", None) or ()):
            index = getattr(choice, "index", None)
            of_choice = pieces.setdefault(index if isinstance(index, int) else position, [])
            piece = getattr(getattr(choice, "delta", None), "content", None)
            if isinstance(piece, str):
                of_choice.append(piece)
    texts: list[Any] = ["".join(of_choice) if of_choice else None for _, of_choice in sorted(pieces.items())]
    return texts


def _scores(response: object, model: str) -> dict[str, float]:
    choice = next(iter(_choices(response, model)), None)
    entries = getattr(getattr(choice, "logprobs", None), "content", None)
    logprobs = [(entry.token, entry.logprob) for entry in entries] if isinstance(entries, Iterable) else None
    scores = scores_from(_content(choice), logprobs)
    if scores is None:
        msg = f"Logprobs not found. {model} is likely not a reward model."
        raise ValueError(msg)
    return scores
