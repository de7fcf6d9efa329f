"""What can go wrong between a client and a model server: a table of faults the fake server can play.

This module covers the kinds of faults and what each does. Which request meets which fault is a script's matter:
`seeded_faults`, `faults_named_in_prompt`, or any function of ``(prompt, attempt)``.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate

from curator_llm.testing import envelopes
from curator_llm.testing.replies import Case, Reply, envelope, head, plain

_MIB = 1 << 20
_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    """One way in which a reply goes wrong.

    Attributes
    ----------
    does : str
        What the server does.
    billed : bool
        Whether the ledger bills its tokens: the model has worked, whatever became of its reply.
    parameter : str
        What stands after the colon of a full name such as ``http:503``, when the script gives none; empty for faults
        that take no parameter.
    """

    does: str
    billed: bool
    parameter: str = ""
    play: Callable[[Case, str], Reply] = field(repr=False, kw_only=True)


def _free(does: str, play: Callable[[Case, str], Reply], parameter: str = "") -> Fault:
    return Fault(does, billed=False, parameter=parameter, play=play)


def _paid(does: str, play: Callable[[Case, str], Reply], parameter: str = "") -> Fault:
    return Fault(does, billed=True, parameter=parameter, play=play)


def _edit(does: str, change: Callable[[Case], object]) -> Fault:
    """Change the completion, then write it as usual."""

    def play(case: Case, _: str) -> Reply:
        change(case)
        return case.render(exact=True)

    return _paid(does, play)


def _body(does: str, body: Callable[[Case], bytes], *, content_type: str = "application/json") -> Fault:
    """Send other bytes under status 200."""
    return _paid(does, lambda case, _: plain(200, body(case), content_type=content_type))


def _refuse(http: int, code: str | None, message: str, does: str, *, param: str | None = None, kind: str = "") -> Fault:
    """Send an error envelope."""
    body = envelopes.error(http, message, code=code, param=param, kind=kind)
    return _free(does, lambda _, __: envelope(http, body))


def _limited(*headers: str) -> Reply:
    return envelope(429, envelopes.error(429, "Rate limit reached for requests. Please slow down."), *headers)


def _http(_: Case, code: str) -> Reply:
    http = int(code)
    return envelope(http, envelopes.error(http, f"The fake server was told to answer {http}."))


def _date(_: Case, parameter: str) -> Reply:
    wait_s, __, skew_s = parameter.partition("/")
    now = time.time() + float(skew_s or 0)
    retry_at = formatdate(now + float(wait_s), usegmt=True)
    return _limited(f"date: {formatdate(now, usegmt=True)}", f"retry-after: {retry_at}")


def _redirect(case: Case, code: str) -> Reply:
    if case.redirect_to is None:
        msg = "the fault 'redirect' needs FakeServer(redirect_to=...): the base URL of the second origin"
        raise ValueError(msg)
    target = f"{case.redirect_to.rstrip('/')}/chat/completions"
    return plain(int(code), b"", f"location: {target}")


def _cut_off(case: Case, _: str) -> Reply:
    wire = case.render().wire
    # The pause lets the client read the first half: a reset throws away what it has not read.
    return Reply(200, wire[: len(wire) - len(case.payload) // 2], [(0.02, b"")], then="reset", whole=False)


def _short(case: Case, _: str) -> Reply:
    wire = head(200, length=len(case.payload)) + case.payload[:-30]
    return Reply(200, wire, then="close", whole=False)


def _endless(case: Case, _: str) -> Reply:
    piece = envelopes.chunk(b" " * 16_384)
    return Reply(200, head(200) + envelopes.chunk(case.payload), itertools.repeat((0.0, piece)), whole=False)


def _trickle(case: Case, wait_s: str) -> Reply:
    pieces = [(float(wait_s), bytes([byte])) for byte in case.payload]
    return Reply(200, head(200, length=len(pieces)), pieces)


def _huge(case: Case, mib: str) -> Reply:
    case.message["content"] = "@"
    before, after = case.payload.split(b"@", 1)
    blocks = int(float(mib) * 16)

    def pieces() -> Iterator[tuple[float, bytes]]:
        block = b"A" * 65_536
        yield from itertools.repeat((0.0, block), blocks)
        yield 0.0, after

    return Reply(200, head(200, length=len(before) + len(after) + blocks * 65_536) + before, pieces())


@functools.lru_cache(maxsize=4)
def _bomb(mib: int) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    parts = [packer.compress(b'{"a":"'), *(packer.compress(b"A" * _MIB) for _ in range(mib)), packer.compress(b'"}')]
    return b"".join(parts) + packer.flush()


def _deep(_: Case, levels: str) -> Reply:
    return plain(200, b'{"choices":' + b"[" * int(levels) + b"]" * int(levels) + b"}")


def _closing(case: Case, _: str) -> Reply:
    reply = case.render()
    reply.then = "close"
    return reply


def _cut_stream(case: Case, _: str) -> Reply:
    if not case.body.get("stream"):
        return case.render()
    # Up to the middle and no [DONE], yet a valid end of the chunked body: only the content tells.
    wire = case.render().wire
    events = wire.split(b"\n\n\r\n")
    return Reply(200, b"\n\n\r\n".join(events[: len(events) // 2]) + b"\n\n\r\n" + envelopes.chunk(b""))


def _error_in_stream(case: Case, _: str) -> Reply:
    if not case.body.get("stream"):
        return case.render()
    cut = _cut_stream(case, "").wire.removesuffix(envelopes.chunk(b""))
    event = f"data: {json.dumps(envelopes.error(500, 'The engine died.'))}\n\n".encode()
    return Reply(200, cut + envelopes.chunk(event) + envelopes.chunk(b""))


def _bad_utf8(case: Case) -> bytes:
    return case.payload.replace(b'"content": "', b'"content": "\xff\xfe', 1)


def _nan_logprobs(case: Case) -> None:
    for token in (case.completion["choices"][0]["logprobs"] or {}).get("content", []):
        token["logprob"] = float("nan")


def _nan_usage(case: Case) -> None:
    case.completion["usage"] = dict.fromkeys(case.completion["usage"], float("nan"))


def _tool_calls(case: Case) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    case.message.update(content=None, tool_calls=[call])
    case.completion["choices"][0]["finish_reason"] = "tool_calls"


def _finish(case: Case, reason: str) -> None:
    for one in case.completion["choices"]:
        one["finish_reason"] = reason


#: Every fault by name. A script gives ``"reset"`` or, with a parameter, ``"http:503"``.
FAULTS: dict[str, Fault] = {
    # Refusals: an HTTP status that is not 200.
    "http": _free("answers this status with an error envelope", _http, "500"),
    "should_retry": _free(
        "500 with x-should-retry: PARAMETER",
        lambda _, p: envelope(500, envelopes.error(500, "Told so."), f"x-should-retry: {p}"),
        "false",
    ),
    "rate_limited": _free("429 without Retry-After", lambda _, __: _limited()),
    "retry_after": _free(
        "429 with Retry-After: PARAMETER, seconds or nonsense (0, -5, nan, abc, 1e9)",
        lambda _, p: _limited(f"retry-after: {p}"),
        "1",
    ),
    "retry_after_ms": _free("429 with retry-after-ms: PARAMETER", lambda _, p: _limited(f"retry-after-ms: {p}"), "100"),
    "retry_after_date": _free(
        "429 with Retry-After as a date PARAMETER seconds after the reply's Date; 2/3600: by a clock an hour ahead",
        _date,
        "2",
    ),
    "insufficient_quota": _refuse(
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        "429 that says the account has no money left",
        kind="insufficient_quota",
    ),
    "context_length": _refuse(
        400,
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        "400: the prompt is longer than the model's context",
        param="messages",
    ),
    "content_filter_400": _refuse(
        400,
        "content_filter",
        "The response was filtered due to the prompt triggering the content management policy.",
        "400: a content filter refused the prompt",
        param="prompt",
    ),
    "refused_schema": _refuse(
        400,
        None,
        "Invalid schema for response_format 'reply': In context=(), 'uniqueItems' is not permitted.",
        "400: the server does not take the schema, whatever the prompt",
        param="response_format",
    ),
    "echo_key": _free(
        "401 whose message holds the whole key that was sent",
        lambda case, _: envelope(401, envelopes.wrong_key(case.key, whole=True)),
    ),
    "bad_gateway": _free("502 with a page of HTML", lambda _, __: plain(502, _HTML, content_type="text/html")),
    "redirect": _free("redirects (307) to the base URL of redirect_to", _redirect, "307"),
    # Completions that are not what they should be, under status 200.
    "null_content": _edit("content is null", lambda case: case.message.update(content=None)),
    "empty_content": _edit("content is empty", lambda case: case.message.update(content="")),
    "tool_calls_only": _edit("tool calls and no content", _tool_calls),
    "refusal": _edit(
        "a refusal and no content", lambda case: case.message.update(content=None, refusal="I cannot help with that.")
    ),
    "finish_length": _edit("finish_reason is length", lambda case: _finish(case, "length")),
    "finish_content_filter": _edit("finish_reason is content_filter", lambda case: _finish(case, "content_filter")),
    "reasoning": _edit(
        "reasoning_content beside the content", lambda case: case.message.update(reasoning_content="Let me think.")
    ),
    "surrogate": _edit(
        "a lone surrogate at the end of the content",
        lambda case: case.message.update(content=f"{case.message['content']} \ud83d"),
    ),
    "nul": _edit(
        "a NUL at the end of the content", lambda case: case.message.update(content=f"{case.message['content']} \x00")
    ),
    "unordered_choices": _edit("the choices in reverse order", lambda case: case.completion["choices"].reverse()),
    "no_logprobs": _edit("logprobs is null", lambda case: case.completion["choices"][0].update(logprobs=None)),
    "nan_logprobs": _edit("every logprob is NaN", _nan_logprobs),
    "empty_choices": _edit("choices is empty", lambda case: case.completion.update(choices=[])),
    "no_usage": _edit("no usage", lambda case: case.completion.pop("usage")),
    "nan_usage": _edit("usage counts are NaN", _nan_usage),
    "wrong_types": _body("choices is a text", lambda case: json.dumps({**case.completion, "choices": "zzz"}).encode()),
    "no_choices": _body("an object without choices", lambda _: b'{"ok": true}'),
    "error_in_200": _body(
        "an error envelope under status 200", lambda _: json.dumps(envelopes.error(502, "Upstream died.")).encode()
    ),
    "list_body": _body("the body is []", lambda _: b"[]"),
    "null_body": _body("the body is null", lambda _: b"null"),
    "empty_body": _body("no body", lambda _: b""),
    "truncated_json": _body("the body ends early, and its length agrees", lambda case: case.payload[:-30]),
    "html_200": _body("a page of HTML under status 200", lambda _: _HTML, content_type="text/html"),
    "html_as_json": _body("a page of HTML that says it is JSON", lambda _: _HTML),
    "wrong_content_type": _body("the right JSON as text/plain", lambda case: case.payload, content_type="text/plain"),
    "bad_utf8": _body("the content starts with two bytes that are not UTF-8", _bad_utf8),
    "deep_json": _paid("JSON of PARAMETER nested lists", _deep, "100000"),
    "huge_body": _paid("a completion of PARAMETER MiB", _huge, "64"),
    "gzip_bomb": _paid(
        "a gzip body that grows to PARAMETER MiB",
        lambda _, mib: plain(200, _bomb(int(mib)), "content-encoding: gzip"),
        "64",
    ),
    "huge_header": _paid(
        "a header of PARAMETER KiB",
        lambda case, kib: plain(200, case.payload, f"x-huge: {'A' * int(kib) * 1024}"),
        "1024",
    ),
    # The connection.
    "reset": _paid("resets the connection before the head", lambda _, __: Reply(None, b"", then="reset", whole=False)),
    "close": _paid("closes the connection before the head", lambda _, __: Reply(None, b"", then="close", whole=False)),
    "reset_mid_body": _paid("resets the connection in the middle of the body", _cut_off),
    "short_body": _paid("closes the connection before the body is as long as announced", _short),
    "close_after_reply": _paid("answers well, then closes without having said so", _closing),
    "endless_chunked": _paid("a chunked body without end", _endless),
    "trickle": _paid("one byte of the body every PARAMETER seconds", _trickle, "0.25"),
    "hang": _free(
        "never answers, until the client goes away", lambda _, __: Reply(None, b"", then="hang", whole=False)
    ),
    "hang_after_headers": _paid(
        "sends the head and nothing more",
        lambda case, _: Reply(200, head(200, length=len(case.payload)), then="hang", whole=False),
    ),
    "cut_stream": _paid("a stream that ends in the middle, without [DONE]", _cut_stream),
    "error_in_stream": _paid("an error event in the middle of a stream", _error_in_stream),
}


def look_up(name: str) -> tuple[Fault, str]:
    """Give the fault of a full name and its parameter, or say which name is nearest."""
    kind, _, parameter = name.partition(":")
    fault = FAULTS.get(kind)
    if fault is None:
        near = difflib.get_close_matches(kind, FAULTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FAULTS)}"
        msg = f"there is no fault {name!r}; {hint}"
        raise ValueError(msg)
    return fault, parameter or fault.parameter
