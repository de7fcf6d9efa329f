"""The exceptions of the libraries below: each has a meaning here, and a library that brings a new one fails a test."""

from __future__ import annotations

import asyncio
import inspect
from types import ModuleType, SimpleNamespace

import httpx2
import openai
import pyreqwest.exceptions
import pytest

from curator_llm import Endpoint
from curator_llm.engine.transport.causes import fault_in, reply_in
from curator_llm.engine.transport.pyreqwest import PyreqwestTransport
from curator_llm.errors import CuratorLLMError
from curator_llm.wire.exchange import Fault, Request

REQUEST = httpx2.Request("POST", "http://server/v1/chat/completions", headers={"authorization": "Bearer sk-secret"})


def names(module: ModuleType) -> set[str]:
    """Return the exceptions a module names."""
    found = {name: getattr(module, name, None) for name in [*getattr(module, "__all__", dir(module))]}
    return {name for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, BaseException)}


#: What a request can raise: kind of fault, and whether the server may have seen it.
HTTPX = {
    "CloseError": ("reset", True),
    "ConnectError": ("connect", False),
    "ConnectTimeout": ("connect", False),
    "InvalidURL": ("local", False),
    "LocalProtocolError": ("local", False),
    "PoolTimeout": ("connect", False),
    "ProxyError": ("connect", False),
    "ReadError": ("reset", True),
    "ReadTimeout": ("timeout", True),
    "RemoteProtocolError": ("reset", True),
    "UnsupportedProtocol": ("local", False),
    "WriteError": ("reset", True),
    "WriteTimeout": ("timeout", True),
}
#: Bases that are not raised themselves, and what only other uses of the library raise.
HTTPX_NEVER = {
    "CookieConflict", "DecodingError", "HTTPError", "HTTPStatusError", "NetworkError", "ProtocolError", "RequestError",
    "RequestNotRead", "ResponseNotRead", "SSEError", "StreamClosed", "StreamConsumed", "StreamError",
    "TimeoutException", "TooManyRedirects", "TransportError",
}  # fmt: skip
#: Those that carry a reply mean what its status means.
OPENAI_REPLIES = {
    "APIStatusError", "AuthenticationError", "BadRequestError", "ConflictError", "InternalServerError", "NotFoundError",
    "OAuthError", "PermissionDeniedError", "RateLimitError", "UnprocessableEntityError",
}  # fmt: skip
OPENAI_OTHERS = {
    "APIConnectionError", "APIError", "APIResponseValidationError", "APITimeoutError",
    "ContentFilterFinishReasonError", "InvalidWebhookSignatureError", "LengthFinishReasonError", "OpenAIError",
    "WebSocketConnectionClosedError", "WebSocketQueueFullError",
}  # fmt: skip

#: Names alone do not tell "never sent" from "maybe billed": without causes, only what built no request was not sent.
PYREQWEST = {
    **dict.fromkeys(
        [
            "BodyDecodeError", "ConnectError", "DecodeError", "DetailedPyreqwestError", "JSONDecodeError",
            "NetworkError", "ReadError", "RedirectError", "RequestError", "RequestPanicError", "StatusError",
            "TransportError", "WriteError",
        ],
        ("reset", True),
    ),
    **dict.fromkeys(
        ["ConnectTimeoutError", "PoolTimeoutError", "ReadTimeoutError", "RequestTimeoutError", "WriteTimeoutError"],
        ("timeout", True),
    ),
    "BuilderError": ("local", False),
    "ClientClosedError": ("closed", False),
}  # fmt: skip


def same(text: bytes) -> bytes:
    return text


def test_every_exception_of_the_http_library_has_a_meaning():
    assert names(httpx2) == set(HTTPX) | HTTPX_NEVER


@pytest.mark.parametrize("name", HTTPX)
def test_an_exception_of_the_http_library_is_a_fault_below_the_sdk_and_alone(name):
    for error in (getattr(httpx2, name)("words"), openai.APIConnectionError(request=REQUEST)):
        if isinstance(error, openai.APIConnectionError):
            error.__cause__ = getattr(httpx2, name)("words")
        fault = fault_in(error, 1.5, same)
        assert isinstance(fault, Fault)
        assert (fault.kind, fault.sent, fault.elapsed_s) == (*HTTPX[name], 1.5)
        assert "sk-secret" not in repr(fault)


def test_every_exception_of_the_sdk_has_a_meaning():
    assert names(openai) == OPENAI_REPLIES | OPENAI_OTHERS


@pytest.mark.parametrize("name", sorted(OPENAI_REPLIES - {"OAuthError"}))
def test_an_exception_of_the_sdk_that_carries_a_reply_is_that_reply(name):
    response = httpx2.Response(418, content=b"words", request=REQUEST)
    reply = reply_in(getattr(openai, name)("words", response=response, body=None), 1.5, 100, same)
    assert reply is not None
    assert (reply.http, reply.body, reply.origin) == (418, b"words", "http://server")
    assert "sk-secret" not in repr(reply)


def test_every_exception_of_the_transport_of_addresses_is_caught_by_its_base():
    base = pyreqwest.exceptions.PyreqwestError
    kinds = [getattr(pyreqwest.exceptions, name) for name in names(pyreqwest.exceptions) - {"JSONDecodeError_"}]
    assert len(kinds) > 20
    assert [kind for kind in kinds if not issubclass(kind, base)] == []


@pytest.mark.parametrize("name", PYREQWEST)
def test_an_exception_of_the_transport_of_addresses_without_causes_is_a_fault_that_may_be_billed(name, monkeypatch):
    monkeypatch.setenv("TEAM_KEY", "team-secret")
    endpoint = Endpoint("m", base_url="http://127.0.0.1:1/v1", api_key="env:TEAM_KEY")
    transport = PyreqwestTransport(endpoint, max_reply_bytes=100, idle_s=1, age_s=1)
    details = {"causes": [], "doc": "", "pos": 0} if "JSON" in name else {"causes": [], "status": 500}

    def broken(*_):
        raise getattr(pyreqwest.exceptions, name)("team-secret was said", details)

    monkeypatch.setattr(transport, "_client", SimpleNamespace(post=broken))
    fault = asyncio.run(transport.send(Request(b"", "chat/completions", b"{}", 1)))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.sent) == PYREQWEST[name]
    assert "team-secret" not in repr(fault)


def test_every_exception_of_the_transport_of_addresses_has_a_meaning():
    assert names(pyreqwest.exceptions) - {"JSONDecodeError_", "PyreqwestError"} == set(PYREQWEST)


def test_none_of_them_is_an_error_of_ours():
    theirs = [getattr(module, name) for module in (httpx2, openai, pyreqwest.exceptions) for name in names(module)]
    assert not any(issubclass(kind, CuratorLLMError) for kind in theirs)
