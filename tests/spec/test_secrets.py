"""References to secrets, and secrets themselves, which are refused."""

from __future__ import annotations

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.spec.secrets import SecretRef, refuse_secrets


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("env:OPENAI_API_KEY", "env", "OPENAI_API_KEY"),
        ("file:~/.keys/openai", "file", "~/.keys/openai"),
        ("file:C:/keys/openai", "file", "C:/keys/openai"),
        ("callable:vault.client:token", "callable", "vault.client:token"),
    ],
)
def test_a_reference_names_where_a_secret_is_found(text: str, kind: str, target: str) -> None:
    reference = SecretRef.parse(text, what="api_key")
    assert (reference.kind, reference.target) == (kind, target)
    assert str(reference) == repr(reference) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-CANARY0123456789",
        "CANARY0123456789abcdef",
        "Bearer CANARY0123456789",
        "nvapi-CANARY:0123",
        "env:sk-CANARY0123456789",
        "ENV:CANARY0123456789",
        "https://CANARY0123456789",
        "file:sk-CANARY0123456789",
    ],
)
def test_a_secret_itself_is_refused_with_two_ways_out_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigurationError, match=r"api_key='env:NAME'.*api_key='file:~/path'") as raised:
        SecretRef.parse(secret, what="api_key")
    assert "CANARY" not in str(raised.value)
    assert "CANARY" not in repr(raised.value.args)
    assert raised.value.__context__ is None


@pytest.mark.parametrize("text", ["callable:vault", "callable:vault.token", "callable::token", "callable:a:b:c"])
def test_a_callable_is_named_by_module_and_function(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"callable:pkg\.mod:function"):
        SecretRef.parse(text, what="api_key")


@pytest.mark.parametrize("text", ["env:", "file:", ":"])
def test_a_reference_without_a_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        SecretRef.parse(text, what="api_key")


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": "CANARY"},
        {"metadata": {"apiKey": "CANARY"}},
        {"a": [{"Authorization": "CANARY"}]},
        {"aws_secret_access_key": "env:CANARY"},
        {"client_secret": "CANARY"},
        {"session-token": "CANARY"},
        {"note": "use sk-CANARY-0123456789"},
        {"list": ["Bearer CANARY0123456789"]},
    ],
)
def test_a_secret_in_a_body_is_refused_with_two_ways_out_and_not_repeated(body: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"`extra_body.*api_key='env:NAME'.*api_key='file:~/path'") as raised:
        refuse_secrets(body, "extra_body")
    assert "CANARY" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": "8", "eos_token": "</s>", "prompt_cache_key": "tenant-7", "top_k": 5},
        {"guided_json": {"properties": {"password": {"type": "string"}}, "required": ["password", "api_key"]}},
        {"api_key": None, "secret": True},
        {"chat_template": "basic english of the bearer, task-specific"},
    ],
)
def test_words_of_a_body_that_only_speak_of_secrets_are_taken(body: dict[str, object]) -> None:
    refuse_secrets(body, "extra_body")
