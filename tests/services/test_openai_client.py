"""The openai clients on plain fakes of the SDK. Every test runs on the blocking and on the async client."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from openai._types import NOT_GIVEN

from curator_llm.services.conversation_formatter import ConversationFormatter
from curator_llm.services.openai_client import AsyncOpenAIClient, OpenAIClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_CHAT = [{"role": "user", "content": "Hello"}]


class _Blocking:
    """A client on a fake SDK, called as the blocking one is."""

    client_type: Any = OpenAIClient
    mock_type: Any = MagicMock

    def __init__(self) -> None:
        self.sdk = MagicMock()
        self.create = self.sdk.chat.completions.create = self.mock_type()
        self.client = self.client_type(self.sdk)

    def answers(self, choices: Any) -> None:
        self.create.return_value = MagicMock(choices=choices)

    def streams(self, chunks: list[Any]) -> None:
        self.create.return_value = iter(chunks)

    def query_model(self, **given: Any) -> Any:
        return self.client.query_model(messages=_CHAT, model="m", **given)

    def query_reward_model(self) -> Any:
        return self.client.query_reward_model(messages=_CHAT, model="m")


class _Async(_Blocking):
    """The same, awaited."""

    client_type: Any = AsyncOpenAIClient
    mock_type: Any = AsyncMock

    def streams(self, chunks: list[Any]) -> None:
        async def stream() -> AsyncIterator[Any]:
            for chunk in chunks:
                yield chunk

        self.create.return_value = stream()

    def query_model(self, **given: Any) -> Any:
        return asyncio.run(super().query_model(**given))

    def query_reward_model(self) -> Any:
        return asyncio.run(super().query_reward_model())


@pytest.fixture(params=[_Blocking, _Async], ids=["OpenAIClient", "AsyncOpenAIClient"])
def fake(request: pytest.FixtureRequest) -> _Blocking:
    made: _Blocking = request.param()
    made.answers([_choice("text")])
    return made


def _choice(content: Any, **attributes: Any) -> MagicMock:
    choice = MagicMock(**attributes)
    choice.message.content = content
    return choice


def _chunk(*pieces: tuple[Any, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        choices=[SimpleNamespace(index=i, delta=SimpleNamespace(content=text)) for i, text in pieces]
    )


def _logprob(token: Any, value: Any) -> MagicMock:
    return MagicMock(token=token, logprob=value)


def test_the_client_of_the_sdk_is_the_attribute_client(fake: _Blocking) -> None:
    assert fake.client.client is fake.sdk


def test_the_text_of_every_choice_is_returned(fake: _Blocking) -> None:
    fake.answers([_choice("first"), _choice("second")])
    assert fake.query_model(n=2) == ["first", "second"]


def test_what_is_not_given_is_passed_as_not_given(fake: _Blocking) -> None:
    fake.query_model()
    unset = dict.fromkeys(("max_tokens", "n", "seed", "stop", "temperature", "top_p"), NOT_GIVEN)
    fake.create.assert_called_once_with(messages=_CHAT, model="m", stream=False, **unset)


def test_what_is_given_is_passed_on(fake: _Blocking) -> None:
    given = {"max_tokens": None, "n": 1, "seed": 42, "stop": ["end"], "temperature": 0.7, "top_p": 0.9}
    fake.query_model(stream=None, **given)
    fake.create.assert_called_once_with(messages=_CHAT, model="m", stream=None, **given)


@pytest.mark.parametrize(
    ("name", "value"), [("conversation_formatter", MagicMock(spec=ConversationFormatter)), ("top_k", 5), ("top_k", 0)]
)
def test_what_is_not_used_is_warned_of_where_it_was_given(fake: _Blocking, name: str, value: Any) -> None:
    article_and_client = f"an {type(fake.client).__name__}"
    with pytest.warns(UserWarning, match=f"^{name} is not used in {article_and_client}$") as caught:
        assert fake.query_model(**{name: value}) == ["text"]
    assert name not in fake.create.call_args.kwargs
    assert len(caught) == 1


def test_a_warning_names_the_line_of_the_caller() -> None:
    fake = _Blocking()
    fake.answers([_choice("text")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fake.client.query_model(messages=_CHAT, model="m", top_k=5)
    assert [each.filename for each in caught] == [__file__]


def test_choices_come_in_the_order_of_their_index(fake: _Blocking) -> None:
    fake.answers([_choice("c", index=2), _choice("a", index=0), _choice("b", index=1)])
    assert fake.query_model(n=3) == ["a", "b", "c"]


def test_choices_without_an_index_keep_their_order(fake: _Blocking) -> None:
    fake.answers([_choice("b", index=1), _choice("a"), _choice("c", index=0)])
    assert fake.query_model(n=3) == ["b", "a", "c"]


def test_a_choice_without_a_text_is_none_and_an_empty_one_is_empty(fake: _Blocking) -> None:
    fake.answers([_choice(None), _choice(""), SimpleNamespace(message=None)])
    assert fake.query_model(n=3) == [None, "", None]


def test_no_choices_are_no_texts(fake: _Blocking) -> None:
    fake.answers([])
    assert fake.query_model() == []


@pytest.mark.parametrize("reply", ["<html>not here</html>", None, SimpleNamespace(choices=None)])
@pytest.mark.parametrize("method", ["query_model", "query_reward_model"])
def test_a_reply_that_is_no_completion_says_what_to_check(fake: _Blocking, reply: Any, method: str) -> None:
    fake.create.return_value = reply
    with pytest.raises(ValueError, match=r"'m' is no chat completion.*base_url"):
        getattr(fake, method)()


def test_a_stream_is_assembled_into_the_same_list(fake: _Blocking) -> None:
    fake.streams([_chunk((0, "Hel")), _chunk((0, "lo")), _chunk((0, "!"))])
    assert fake.query_model(stream=True) == ["Hello!"]
    assert fake.create.call_args.kwargs["stream"] is True


def test_the_choices_of_a_stream_are_kept_apart_by_index(fake: _Blocking) -> None:
    fake.streams([_chunk((1, "b")), _chunk((0, "a"), (1, "B")), _chunk((0, "A"))])
    assert fake.query_model(n=2, stream=True) == ["aA", "bB"]


def test_the_choices_of_a_stream_without_an_index_go_by_their_place(fake: _Blocking) -> None:
    fake.streams([_chunk((MagicMock(), "a"), (MagicMock(), "b")), _chunk((None, "A"), (None, "B"))])
    assert fake.query_model(n=2, stream=True) == ["aA", "bB"]


def test_pieces_without_a_text_add_nothing(fake: _Blocking) -> None:
    usage = SimpleNamespace(choices=[])
    nothing = SimpleNamespace(choices=None)
    end = SimpleNamespace(choices=[SimpleNamespace(index=0, delta=None)])
    fake.streams([_chunk((0, None)), _chunk((0, "Hello")), _chunk((0, MagicMock())), end, usage, nothing])
    assert fake.query_model(stream=True) == ["Hello"]


def test_a_streamed_choice_without_a_text_is_none_and_an_empty_one_is_empty(fake: _Blocking) -> None:
    fake.streams([_chunk((0, None), (1, "")), _chunk((0, None), (1, None))])
    assert fake.query_model(n=2, stream=True) == [None, ""]


def test_a_server_that_answers_at_once_instead_of_streaming_is_understood(fake: _Blocking) -> None:
    assert fake.query_model(stream=True) == ["text"]


def test_a_mocked_stream_is_assembled() -> None:
    blocking, looped = _Blocking(), _Async()
    blocking.create.return_value.__iter__.return_value = [_chunk((0, "Hello"))]
    looped.create.return_value = MagicMock()
    looped.create.return_value.__aiter__.return_value = [_chunk((0, "Hello"))]
    assert blocking.query_model(stream=True) == looped.query_model(stream=True) == ["Hello"]


def test_a_stream_without_events_says_what_to_check(fake: _Blocking) -> None:
    fake.streams([])
    with pytest.raises(ValueError, match=r"stream without events.*base_url"):
        fake.query_model(stream=True)


def test_scores_come_from_logprobs(fake: _Blocking) -> None:
    choice = _choice("helpfulness:9")
    choice.logprobs.content = [_logprob("helpfulness", 1.6), _logprob("verbosity", -0.5)]
    fake.answers([choice])
    assert fake.query_reward_model() == {"helpfulness": 1.6, "verbosity": -0.5}
    fake.create.assert_called_once_with(messages=_CHAT, model="m")


@pytest.mark.parametrize(
    "logprobs",
    [None, MagicMock(), SimpleNamespace(content=None), SimpleNamespace(content=[])],
    ids=lambda value: type(value).__name__,
)
def test_without_logprobs_scores_come_from_the_text(fake: _Blocking, logprobs: Any) -> None:
    fake.answers([_choice("helpfulness:1.2,correctness:0.4", logprobs=logprobs)])
    assert fake.query_reward_model() == {"helpfulness": 1.2, "correctness": 0.4}


@pytest.mark.parametrize(
    "make_choices",
    [
        list,
        lambda: [MagicMock(logprobs=None)],
        lambda: [MagicMock()],
        lambda: [_choice("A fine answer.", logprobs=None)],
        lambda: [_choice(None, logprobs=None)],
        lambda: [_choice("nan", logprobs=None)],
        lambda: [_choice("4", logprobs=SimpleNamespace(content=[_logprob("helpfulness", float("nan"))]))],
    ],
    ids=["no choices", "a mock without logprobs", "a bare mock", "prose", "null", "nan", "a nan logprob"],
)
def test_a_reply_without_scores_is_no_reward_models(fake: _Blocking, make_choices: Callable[[], Any]) -> None:
    fake.answers(make_choices())
    with pytest.raises(ValueError, match=r"^Logprobs not found\. m is likely not a reward model\.$"):
        fake.query_reward_model()


@pytest.mark.parametrize("client_type", [OpenAIClient, AsyncOpenAIClient])
def test_the_signatures_are_those_of_nemo_curator(client_type: Any) -> None:
    empty = inspect.Parameter.empty
    query = inspect.signature(client_type.query_model).parameters
    assert {name: each.default for name, each in query.items()} == {
        "self": empty,
        "messages": empty,
        "model": empty,
        "conversation_formatter": None,
        "max_tokens": NOT_GIVEN,
        "n": NOT_GIVEN,
        "seed": NOT_GIVEN,
        "stop": NOT_GIVEN,
        "stream": False,
        "temperature": NOT_GIVEN,
        "top_k": None,
        "top_p": NOT_GIVEN,
    }
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for name, each in query.items() if name != "self")
    assert list(inspect.signature(client_type.query_reward_model).parameters) == ["self", "messages", "model"]


def test_an_error_of_the_sdk_passes_through(fake: _Blocking) -> None:
    fake.create.side_effect = ConnectionError("refused")
    with pytest.raises(ConnectionError, match="refused"):
        fake.query_model()
