"""The interfaces of clients, blocking and in a loop."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from curator_llm import services
from curator_llm.services.model_client import AsyncLLMClient, LLMClient

_QUERY_MODEL = {
    "messages": inspect.Parameter.empty,
    "model": inspect.Parameter.empty,
    "conversation_formatter": None,
    "max_tokens": None,
    "n": 1,
    "seed": None,
    "stop": None,
    "stream": False,
    "temperature": None,
    "top_k": None,
    "top_p": None,
}
_QUERY_REWARD_MODEL = {
    "messages": inspect.Parameter.empty,
    "model": inspect.Parameter.empty,
    "conversation_formatter": None,
}
_INTERFACES = [LLMClient, AsyncLLMClient]


def _keywords(method: Any) -> dict[str, object]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("interface", _INTERFACES)
def test_the_interface_takes_the_keywords_of_nemo_curator(interface: type[Any]) -> None:
    assert _keywords(interface.query_model) == _QUERY_MODEL
    assert _keywords(interface.query_reward_model) == _QUERY_REWARD_MODEL


@pytest.mark.parametrize("interface", _INTERFACES)
@pytest.mark.parametrize("method", ["query_model", "query_reward_model"])
def test_a_client_lacking_a_method_cannot_be_made(interface: type[Any], method: str) -> None:
    half = type("Half", (interface,), {method: lambda self, **_: None})
    with pytest.raises(TypeError, match="abstract"):
        half()


@pytest.mark.parametrize("interface", _INTERFACES)
def test_a_client_with_both_methods_is_one(interface: type[Any]) -> None:
    methods = {"query_model": lambda self, **_: ["text"], "query_reward_model": lambda self, **_: {"score": 0.5}}
    assert isinstance(type("Whole", (interface,), methods)(), interface)


def test_the_async_interface_is_awaited() -> None:
    assert inspect.iscoroutinefunction(AsyncLLMClient.query_model)
    assert inspect.iscoroutinefunction(AsyncLLMClient.query_reward_model)


def test_the_interfaces_load_no_sdk() -> None:
    code = (
        "import sys; import curator_llm.services;"
        "from curator_llm.services.model_client import LLMClient;"
        "from curator_llm.services import AsyncLLMClient, ConversationFormatter;"
        "assert 'openai' not in sys.modules;"
        "from curator_llm.services import OpenAIClient;"
        "assert 'openai' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", services.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(services, name).__name__ == name
    assert name in dir(services)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NemoDeployClient"):
        services.NemoDeployClient  # noqa: B018
