"""Decoding of chat completions and error bodies, as lenient as "compatible" servers need it.

All fields are optional: servers leave out what they like, and what they count is no reason to lose an answer. What is
no chat completion at all gives None.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

import msgspec

_SURROGATE = re.compile("[\ud800-\udfff]")

#: A count that JSON, Parquet and everybody else can hold.
Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class TokenLogprob(msgspec.Struct, gc=False):
    """One token of a reply; reward models put an attribute's name and score here."""

    token: str = ""
    logprob: float | None = None


class Logprobs(msgspec.Struct, gc=False):
    """The logprobs of a choice."""

    content: list[TokenLogprob] | None = None


class Message(msgspec.Struct, gc=False):
    """What the model said."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of the replies; a stage takes the first."""

    index: int | None = None
    message: Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class PromptTokensDetails(msgspec.Struct, gc=False):
    """Input tokens by kind."""

    cached_tokens: Tokens | None = None


class CompletionTokensDetails(msgspec.Struct, gc=False):
    """Output tokens by kind."""

    reasoning_tokens: Tokens | None = None


class Usage(msgspec.Struct, gc=False):
    """What the server counted."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class Completion(msgspec.Struct, gc=False):
    """A chat completion."""

    choices: list[Choice]
    id: str | None = None
    model: str | None = None
    usage: Usage | None = None


class ErrorBody(msgspec.Struct, gc=False):
    """What an error reply says."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""


_decode_completion = msgspec.json.Decoder(Completion).decode


def parse_completion(body: bytes) -> Completion | None:
    """Decode a body; None when it is no chat completion with at least one choice.

    Broken text inside good JSON (bad UTF-8, lone surrogates, NaN) is repaired: bad characters become U+FFFD, NaN null.
    Of several choices the one with the lowest index comes first.
    """
    completion: Completion | None
    try:
        completion = _decode_completion(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        completion = _repaired_completion(body)
    if completion is None or not completion.choices:
        return None
    if len(completion.choices) > 1:
        completion.choices.sort(key=lambda choice: choice.index or 0)
    return completion


def parse_error(body: bytes) -> ErrorBody:
    """Decode an error body of any known dialect (OpenAI, vLLM, FastAPI, Gemini); plain text becomes the message."""
    try:
        found = loads_lenient(body)
    except (ValueError, RecursionError):
        return ErrorBody(message=one_line(body.decode("utf-8", "replace")))
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and isinstance(found.get("error"), dict | str):
        found = found["error"]
    if not isinstance(found, dict):
        return ErrorBody(message=one_line(found if isinstance(found, str) else json.dumps(found)))
    message = found.get("message") or found.get("detail") or found
    return ErrorBody(
        message=one_line(message if isinstance(message, str) else json.dumps(message)),
        type=str(found.get("type") or ""),
        code=str(found.get("code") or ""),
        param=str(found.get("param") or ""),
    )


def has_error(body: bytes) -> bool:
    """Tell whether a body that is no completion carries an error object, as some gateways send under 200."""
    try:
        found = loads_lenient(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and bool(found.get("error"))


def loads_lenient(body: bytes) -> Any:
    """Decode JSON with bad UTF-8 and lone surrogates as U+FFFD, and NaN and infinities as null.

    Raises
    ------
    ValueError, RecursionError
        When it is no JSON, or nested too deep.
    """
    found = json.loads(body.decode("utf-8", "replace"), parse_constant=lambda _: None, parse_float=_finite)
    return json.loads(_SURROGATE.sub("\ufffd", json.dumps(found, ensure_ascii=False)))


def clean_text(text: str) -> str:
    """Replace lone surrogates, which neither Arrow nor Parquet can hold."""
    return _SURROGATE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Keep what a server says short and printable: it goes into columns, logs and terminals."""
    kept = "".join(character if character.isprintable() else " " for character in text[:2000])
    return " ".join(kept.split())[:500]


def _repaired_completion(body: bytes) -> Completion | None:
    try:
        found = loads_lenient(body)
        _drop_misfits(found, {"id": str, "model": str, "usage": Usage})
        for choice in found["choices"]:
            _drop_misfits(choice, {"index": int, "finish_reason": str, "logprobs": Logprobs})
        return msgspec.convert(found, Completion, strict=False)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None


def _drop_misfits(fields: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Drop what is of another kind than the API says and not the answer itself."""
    for name, kind in kinds.items():
        try:
            msgspec.convert(fields.get(name), kind | None, strict=False)
        except msgspec.ValidationError:
            del fields[name]


def _finite(literal: str) -> float | None:
    number = float(literal)
    return number if math.isfinite(number) else None
