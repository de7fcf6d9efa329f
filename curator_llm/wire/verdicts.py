"""What a reply or a fault means: the class it belongs to, before anybody decides what to do about it.

====================  ==========================================================================================
final                 the row has its outcome
throttled             come back later: 429, 503, 529; costs no attempt
transient             another attempt may work: 408, 409, 425, other 5xx, faults of the network, malformed bodies
run                   no row can work: key, model or path, quota, a schema the server refuses, redirect, certificate
====================  ==========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from curator_llm.wire.envelopes import ErrorBody, has_error, one_line, parse_error
from curator_llm.wire.exchange import Fault, Reply, Status
from curator_llm.wire.headers import retry_after_s

VerdictKind = Literal["final", "throttled", "transient", "run"]

_THROTTLED = {429: "rate_limited", 503: "overloaded", 529: "overloaded"}
_TRANSIENT_4XX = frozenset({408, 409, 425})
_REFUSED = {401: "authentication", 403: "authentication", 407: "authentication", 402: "quota"}
_NOT_FOUND = frozenset({404, 405, 410})  # no such path, no such method on it, no such model any more
#: How servers say that it is the schema they refuse: OpenAI, DeepSeek; vLLM and its back ends; llama.cpp; FastAPI.
_SCHEMA_REFUSED = re.compile(
    r"invalid schema for response_format|'response_format' of type|(this|^)\W*response_format"
    r"|(features|keys|keywords) (not |un)supported by|(^|: )grammar error:|invalid (json )?grammar specification"
    r"|(failed|failure) to \w+ [^.:]{0,30}\b(grammar|json.?schema)|json schema (conversion failed|error at)"
    r"|(guided.decoding|structured.outputs?)\b[^.:]{0,60}\b(not|unsupported|only|invalid|fail)"
    r"|\bloc\W+body\W+(response_format|guided_|structured_outputs)",
    re.IGNORECASE,
)
#: The fields by which a form is asked for: of the API; of vLLM, SGLang, llama.cpp and NIM in ``extra_body``.
_FORM_FIELD = re.compile(r"response_format|guided_\w+|structured_outputs|json_schema|grammar|regex|ebnf|nvext")
_UNKNOWN_FIELD = re.compile(
    r"extra_forbidden\W+loc\W+body\W+max_completion_tokens\b"
    r"|(unrecognized|unknown|unexpected|unsupported)[\w ]{0,40}\W+max_completion_tokens\b",
    re.IGNORECASE,
)
#: A message that repeats the request proves nothing: the words may be a row's.
_ECHO = re.compile(r"\W(messages|input|content|prompt)['\"]\s*:", re.IGNORECASE)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a reply or a fault means.

    Attributes
    ----------
    kind : {"final", "throttled", "transient", "run"}
    status : str
        What the row ends with if it ends here.
    code, text : str
        Null for ok; shown as ``code: text``.
    input_tokens, output_tokens : int or None
        As reported.
    billed : bool
        Whether the server charges for it, or may.
    retry_after_s : float or None
        What the server asks for.
    sent : bool
        False when the request never reached a server.
    model : str or None
        As the server calls itself.
    """

    kind: VerdictKind
    status: Status = "failed"
    code: str | None = None
    text: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    billed: bool = False
    retry_after_s: float | None = None
    sent: bool = True
    model: str | None = None


def judge(outcome: Reply | Fault, judge_body: Callable[[bytes], Verdict], asked: bytes) -> Verdict:
    """Say what came back.

    Parameters
    ----------
    outcome : Reply or Fault
    judge_body : callable
        The operation's reading of a body that came without an error.
    asked : bytes
        The request's body.
    """
    if isinstance(outcome, Fault):
        return _judge_fault(outcome)
    if answered(outcome.http):
        return judge_body(outcome.body)
    return _judge_error(outcome, parse_error(outcome.body), asked)


def answered(http: int | None) -> bool:
    """Tell whether a status says that the body is the answer."""
    return http is not None and 200 <= http < 300


def malformed(body: bytes) -> Verdict:
    """Return the verdict for an answer that is no completion: a gateway's page, an error object, half a reply."""
    said = parse_error(body).message
    if has_error(body):
        return Verdict("transient", code="error_in_200", text=said, billed=True)
    text = f"not a chat completion: {said[:120]}" if said else "an empty body"
    return Verdict("transient", code="malformed", text=text, billed=True)


def _judge_fault(fault: Fault) -> Verdict:
    if fault.kind == "certificate":
        return Verdict("run", code="certificate", text=fault.message, sent=False)
    if fault.kind == "too_large":
        return Verdict("final", status="invalid", code="too_large", text=fault.message, billed=True)
    if fault.kind == "local":
        return Verdict("final", status="rejected", code="local", text=fault.message, sent=False)
    return Verdict("transient", code=fault.kind, text=fault.message, billed=fault.sent, sent=fault.sent)


def _judge_error(reply: Reply, error: ErrorBody, asked: bytes) -> Verdict:
    http = reply.http
    text = f"{http} {error.message}".strip()
    should_retry = reply.headers.get("x-should-retry")
    if error.code in _QUOTA_CODES or error.type in _QUOTA_CODES:
        return Verdict("run", code="quota", text=text)
    if http in _REFUSED:
        return Verdict("run", code=_REFUSED[http], text=text)
    if http in _NOT_FOUND:
        return Verdict("run", code="not_found", text=text)
    if http < 400:
        return Verdict("run", code="redirect", text=f"{http} to {one_line(reply.headers.get('location', 'nowhere'))}")
    if http in _THROTTLED:
        return Verdict("throttled", code=_THROTTLED[http], text=text, retry_after_s=retry_after_s(reply.headers))
    if http >= 500 or http in _TRANSIENT_4XX:
        kind: VerdictKind = "final" if should_retry == "false" else "transient"
        code = "server_error" if http >= 500 else "request_conflict" if http == 409 else "server_timeout"
        return Verdict(kind, code=code, text=text, retry_after_s=retry_after_s(reply.headers))
    if should_retry == "true":
        return Verdict("transient", status="rejected", code="bad_request", text=text)
    if error.code == "content_filter" or "content_filter" in error.type:
        return Verdict("final", status="filtered", code="content_filter", text=text)
    if refuses_schema(http, error) and _asks_for_form(asked):
        return Verdict("run", status="rejected", code="request_refused", text=text)
    return Verdict("final", status="rejected", code=_rejection(http, error), text=text)


def _rejection(http: int, error: ErrorBody) -> str:
    said = f"{error.code} {error.type} {error.message}".lower()
    if "context_length" in said or "context size" in said or "context length" in said:
        return "context_length"
    if http == 413:
        return "too_large"
    if asks_for_max_completion_tokens(http, error):
        return "max_tokens_renamed"
    if refuses_max_completion_tokens(http, error):
        return "max_completion_tokens_renamed"
    return "bad_request"


def refuses_schema(http: int, error: ErrorBody) -> bool:
    """Tell whether a server refused the ``response_format``, which every row sends alike, and not this row."""
    if http not in {400, 422} or error.param.startswith("messages") or "contain the word 'json'" in error.message:
        return False  # "'messages' must contain the word 'json'" is about the row
    if error.param.startswith("response_format") or error.code == "invalid_json_schema":
        return True
    echo = _ECHO.search(error.message)
    return _SCHEMA_REFUSED.search(error.message[: echo.start()] if echo else error.message) is not None


def _asks_for_form(asked: bytes) -> bool:
    return any(_FORM_FIELD.fullmatch(name) for name in msgspec.json.decode(asked, type=dict[str, msgspec.Raw]))


def asks_for_max_completion_tokens(http: int, error: ErrorBody) -> bool:
    """Tell whether a server refused ``max_tokens`` in favour of ``max_completion_tokens``."""
    return http == 400 and "max_completion_tokens" in error.message and "max_tokens" in f"{error.param} {error.message}"


def refuses_max_completion_tokens(http: int, error: ErrorBody) -> bool:
    """Tell whether a server knows ``max_tokens`` alone (Mistral, older vLLM and Azure)."""
    return http in {400, 422} and _UNKNOWN_FIELD.search(error.message) is not None
