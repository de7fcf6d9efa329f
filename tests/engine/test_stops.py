"""The error a run stops with: what is wrong, where, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from curator_llm import Endpoint
from curator_llm.engine.stops import stop_error
from curator_llm.errors import (
    AuthenticationError,
    EndpointUnreachableError,
    ModelNotFoundError,
    QuotaExceededError,
    RequestRefusedError,
    RunError,
)
from curator_llm.wire.verdicts import Verdict

URL = "http://vllm.ml.svc:8000/v1"


@pytest.mark.parametrize(
    ("verdict", "endpoint", "kind", "said"),
    [
        (
            Verdict("run", code="authentication", text="401 Incorrect API key"),
            {"api_key": "env:MY_KEY"},
            AuthenticationError,
            [URL, "env:MY_KEY", "on every worker", "401 Incorrect API key"],
        ),
        (
            Verdict("run", code="authentication", text="401 missing"),
            {},
            AuthenticationError,
            [URL, "none is sent", "api_key='env:NAME'", "401 missing"],
        ),
        (
            Verdict("run", code="authentication", text="403 no"),
            {"headers": {"Authorization": "file:~/token"}},
            AuthenticationError,
            [URL, "file:~/token", "403 no"],
        ),
        (
            Verdict("run", code="not_found", text="404 no such model"),
            {},
            ModelNotFoundError,
            [URL, "'qwen'", "`model`", "`base_url`", "/v1", "404 no such model"],
        ),
        (
            Verdict("run", code="quota", text="429 insufficient_quota"),
            {"api_key": "env:MY_KEY"},
            QuotaExceededError,
            [URL, "env:MY_KEY", "429 insufficient_quota"],
        ),
        (
            Verdict("run", code="request_refused", text="400 Invalid schema for response_format"),
            {},
            RequestRefusedError,
            [URL, "'qwen'", "response_format", "`choices`", "400 Invalid schema"],
        ),
        (
            Verdict("run", code="redirect", text="307 to https://elsewhere.example/v1"),
            {},
            EndpointUnreachableError,
            [URL, "307 to https://elsewhere.example/v1", "base_url"],
        ),
        (
            Verdict("run", code="certificate", text="self-signed"),
            {},
            EndpointUnreachableError,
            [URL, "self-signed", "ca_file="],
        ),
        (
            Verdict("transient", code="connect", text="connection refused", sent=False),
            {},
            EndpointUnreachableError,
            [URL, "for 60 s", "connect: connection refused", "workers reach it"],
        ),
        (
            Verdict("transient", code="dns", text="no such host", sent=False),
            {"base_url": [URL, "http://b:8000/v1"]},
            EndpointUnreachableError,
            [URL, "http://b:8000/v1", "dns: no such host"],
        ),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_each_stop_says_what_is_wrong_where_and_what_to_do(
    verdict: Verdict, endpoint: dict[str, Any], kind: type[RunError], said: list[str]
) -> None:
    error = stop_error(verdict, Endpoint("qwen", **{"base_url": URL, **endpoint}), 60.0)
    assert type(error) is kind
    assert [part for part in said if part not in str(error)] == []
    assert "None" not in str(error)


def test_an_account_without_a_key_is_not_called_none() -> None:
    assert "None" not in str(stop_error(Verdict("run", code="quota", text="402"), Endpoint("m", base_url=URL), 60.0))


@pytest.mark.parametrize(
    ("verdict", "kind", "said"),
    [
        (Verdict("run", code="authentication", text="401 no"), AuthenticationError, "check the key it is made with"),
        (Verdict("run", code="not_found", text="404 no"), ModelNotFoundError, "(on Azure: the deployment's name)"),
        (Verdict("run", code="quota", text="429 no"), QuotaExceededError, "The account of the client of team.llm:make"),
        (
            Verdict("run", code="redirect", text="307 to x"),
            EndpointUnreachableError,
            "give the client the final address",
        ),
        (
            Verdict("run", code="certificate", text="self-signed"),
            EndpointUnreachableError,
            "an http_client with verify=",
        ),
        (Verdict("run", code="authentication", text="407 no"), EndpointUnreachableError, "Give it to the http_client"),
        (
            Verdict("transient", code="connect", text="refused", sent=False),
            EndpointUnreachableError,
            "for 60 s (connect",
        ),
    ],
    ids=lambda value: getattr(value, "text", None),
)
def test_a_stop_of_a_client_says_what_to_change_where_it_is_made(
    verdict: Verdict, kind: type[RunError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    error = stop_error(verdict, Endpoint("qwen", client="team.llm:make"), 60.0)
    assert type(error) is kind
    assert "the client of team.llm:make" in str(error)
    assert said in str(error)
    assert [word for word in ("base_url", "ca_file", "api_key", "proxy='env'", "None") if word in str(error)] == []
