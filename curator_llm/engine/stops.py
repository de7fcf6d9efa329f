"""The error a run stops with: what is wrong, where, and what to do."""

from __future__ import annotations

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


def stop_error(verdict: Verdict, endpoint: Endpoint, unreachable_after_s: float) -> RunError:
    """Return the error for a verdict after which nothing more is sent."""
    where = " or ".join(endpoint.base_urls)
    said = f"The server said: {verdict.text}"
    key = endpoint.api_key or (endpoint.headers or {}).get("authorization")
    match verdict.code:
        case "authentication" if key is None:
            return AuthenticationError(f"{where} asks for a key, and none is sent. Pass api_key='env:NAME'. {said}")
        case "authentication":
            return AuthenticationError(
                f"{where} refused the key from {key}. Check that the variable, file or function holds a key "
                f"for this server, on every worker. {said}"
            )
        case "not_found":
            return ModelNotFoundError(
                f"{where} does not know the model {endpoint.model!r} (or the path). Check `model` and `base_url`, "
                f"which usually ends in /v1. {said}"
            )
        case "quota":
            return QuotaExceededError(
                f"The account of {key or 'no key'} at {where} has no quota left: top it up. {said}"
            )
        case "request_refused":
            return RequestRefusedError(
                f"{where} refuses the response_format, which stands in every request (`choices` ask with one, too). "
                f"Change the schema to what {endpoint.model!r} takes there, or ask for the form in the prompt. {said}"
            )
        case "redirect":
            return EndpointUnreachableError(
                f"{where} redirects ({verdict.text}), and the key goes to no other origin: give the final address as "
                "base_url."
            )
        case "certificate":
            return EndpointUnreachableError(
                f"The certificate of {where} is not trusted ({verdict.text}). For a private authority pass "
                "ca_file='its.pem'."
            )
        case _:
            return EndpointUnreachableError(
                f"No server answered at {where} for {unreachable_after_s:g} s ({verdict.code}: {verdict.text}). Check "
                "the address, that the server runs, and that the workers reach it."
            )
