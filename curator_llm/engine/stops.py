"""The error a run stops with: what is wrong, where, and what to do."""

from __future__ import annotations

import os

from curator_llm import config
from curator_llm.errors import (
    AuthenticationError,
    EndpointUnreachableError,
    ModelNotFoundError,
    QuotaExceededError,
    RequestRefusedError,
    RunError,
)
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.verdicts import Verdict


def stop_error(verdict: Verdict, endpoint: Endpoint, seconds: float) -> RunError:
    """Return the error for a verdict after which nothing more is sent; `seconds` is how long that was waited for."""
    where = endpoint.address
    said = f"The server said: {verdict.text}"
    key = endpoint.api_key or (endpoint.headers or {}).get("authorization")
    if verdict.kind == "final":
        return RequestRefusedError(
            f"{where} rejected nine in ten of the last {config.get('engine.repeated-rejections')} requests for one "
            f"reason ({verdict.code}: {verdict.text}), so it is likely to be in all of them: change what is asked. "
            "Rejected rows are not asked again. To go on all the same, set curator-llm.engine.repeated-rejections to 0."
        )
    match verdict.code:
        case "authentication" if (verdict.text or "").startswith("407"):
            return EndpointUnreachableError(_proxy_refused(endpoint, verdict))
        case "authentication" if endpoint.client is not None:
            return AuthenticationError(f"{where} was refused: check the key it is made with, on every worker. {said}")
        case "authentication" if key is None:
            return AuthenticationError(f"{where} asks for a key, and none is sent. Pass api_key='env:NAME'. {said}")
        case "authentication":
            return AuthenticationError(
                f"{where} refused the key from {key}. Check that the variable, file or function holds a key "
                f"for this server, on every worker. {said}"
            )
        case "not_found" if endpoint.client is not None:
            return ModelNotFoundError(
                f"{where} does not find the model {endpoint.model!r} (or the path). Check `model` (on Azure: the "
                f"deployment's name) and the address the client is made with. {said}"
            )
        case "not_found":
            return ModelNotFoundError(
                f"{where} does not know the model {endpoint.model!r} (or the path). Check `model` and `base_url`, "
                f"which usually ends in /v1. {said}"
            )
        case "quota":
            return QuotaExceededError(
                f"The account of {key or 'no key'} at {where} has no quota left: top it up. {said}"
                if endpoint.client is None
                else f"The account of {where} has no quota left: top it up. {said}"
            )
        case "request_refused":
            return RequestRefusedError(
                f"{where} refuses the response_format, which stands in every request (`choices` ask with one, too). "
                f"Change the schema to what {endpoint.model!r} takes there, or ask for the form in the prompt. {said}"
            )
        case "redirect":
            return EndpointUnreachableError(
                f"{where} redirects ({verdict.text}), and the key goes to no other origin: give "
                f"{'the client the final address' if endpoint.client else 'the final address as base_url'}."
            )
        case "certificate":
            return EndpointUnreachableError(
                f"The certificate of {where} is not trusted ({verdict.text}). {_trust(endpoint)}"
            )
        case _:
            return EndpointUnreachableError(_unanswered(endpoint, verdict, seconds))


def _unanswered(endpoint: Endpoint, verdict: Verdict, seconds: float) -> str:
    if verdict.sent:
        return (
            f"{endpoint.address} has answered no request for {seconds:g} s ({verdict.code}: {verdict.text}). Run again "
            "when it is well; if its replies take longer than `timeout`, raise that."
        )
    return (
        f"No server answered at {endpoint.address} for {seconds:g} s ({verdict.code}: {verdict.text}). Check the "
        f"address, that the server runs, and that the workers reach it.{_proxy_hint(endpoint)}"
    )


def _trust(endpoint: Endpoint) -> str:
    if endpoint.client is not None:
        return (
            "For a private authority, or a proxy that opens TLS, give the SDK's client an http_client with "
            "verify=ssl.create_default_context(cafile='its.pem')."
        )
    return "For a private authority, or a proxy that opens TLS and signs by its own, pass ca_file='its.pem'."


def _proxy_refused(endpoint: Endpoint, verdict: Verdict) -> str:
    if endpoint.client is not None:
        return (
            f"A proxy on the way to {endpoint.address} asks for a password ({verdict.text}). Give it to the http_client"
            " of the SDK's client: proxy='http://user:password@proxy:3128', read from a variable or a file."
        )
    proxy = f"The proxy {endpoint.proxy}" if endpoint.proxy else "A proxy"
    if endpoint.proxy == "env":
        proxy = f"The proxy of {_proxy_variable(endpoint) or 'the environment'}"
    return (
        f"{proxy} on the way to {endpoint.address} asks for a password ({verdict.text}). Put it into HTTP_PROXY and "
        "HTTPS_PROXY on every worker (http://user:password@proxy:3128) and pass proxy='env'."
    )


def _proxy_hint(endpoint: Endpoint) -> str:
    """Say what a proxy has to do with a server out of reach. Values of variables may hold a password: never shown."""
    name = _proxy_variable(endpoint)
    if endpoint.client is not None:
        return ""
    if endpoint.proxy is None:
        return f" {name} is set and not used: proxy='env' uses it." if name else ""
    if endpoint.proxy == "env":
        return (
            f" The proxy is that of {name}." if name else " proxy='env' is given, and no variable names a proxy here."
        )
    return f" The proxy is {endpoint.proxy}."


def _proxy_variable(endpoint: Endpoint) -> str | None:
    """Return the variable that would name a proxy for the endpoint, in this process."""
    schemes = sorted({url.partition("://")[0] for url in endpoint.base_urls}, reverse=True)
    names = [f"{scheme}_proxy" for scheme in (*schemes, "all")]
    return next((name for lower in names for name in (lower.upper(), lower) if os.environ.get(name)), None)
