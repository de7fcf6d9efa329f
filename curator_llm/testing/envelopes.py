"""The bodies of OpenAI's chat completion API: completions, streams, errors, the list of models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curator_llm.testing.answers import draw, reward_of, tokens_of

Json = dict[str, Any]

#: The code of OpenAI's error envelope for each status, where it has one.
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def choice(index: int, fields: Mapping[str, Any], finish_reason: str, logprobs: Any = None) -> Json:
    """Build one choice of a completion; `fields` are those of its message."""
    message = {"role": "assistant", "content": None, **fields}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def completion(body: Mapping[str, Any], choices: Sequence[Json], number: int) -> Json:
    """Build a chat completion; tokens are counted by `tokens_of`."""
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    input_tokens = tokens_of(messages)
    output_tokens = sum(tokens_of(c["message"]["content"] or "") for c in choices)
    return {
        "id": f"chatcmpl-fake-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", "fake-model"),
        "choices": list(choices),
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }


def logprobs_of(text: str) -> Json:
    """Give the logprobs of a text: one token per word."""
    return {"content": [_token(word, -round(draw("logprob", word), 6)) for word in text.split()]}


def _token(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": []}


def reward_choice(messages: Sequence[Mapping[str, Any]], dialect: str) -> Json:
    """Build the choice of a reward model: scores in the logprobs, in the content, or one number in the content."""
    scores = reward_of(messages)
    if dialect == "number":
        return choice(0, {"content": str(scores["helpfulness"])}, "stop")
    if dialect == "content":
        return choice(0, {"content": ",".join(f"{name}:{score}" for name, score in scores.items())}, "stop")
    return choice(0, {"content": ""}, "length", {"content": [_token(*score) for score in scores.items()]})


def stream(reply: Mapping[str, Any], *, with_usage: bool) -> bytes:
    """Turn a completion into server-sent events: one per word, the choices by turns, in HTTP chunks."""
    base = {key: reply[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    queues = [_deltas(one) for one in reply["choices"]]
    events = []
    for turn in range(max(map(len, queues), default=0)):
        # The last choice first: a client that trusts the order and not the index puts them together wrongly.
        events += [base | {"choices": [queue[turn]]} for queue in reversed(queues) if turn < len(queue)]
    if with_usage:
        events = [event | {"usage": None} for event in events]
        events.append(base | {"choices": [], "usage": reply.get("usage")})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
    return b"".join(chunk(line.encode()) for line in lines) + chunk(b"")


def _deltas(one: Mapping[str, Any]) -> list[Json]:
    message, index = one["message"], one["index"]
    rest = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    deltas: list[Json] = [{"role": message["role"], "content": "" if message["content"] is not None else None}]
    deltas += [{"content": word} for word in _words(message["content"] or "")]
    if rest:
        deltas.append(rest)
    found: list[Json] = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
    return [*found, {"index": index, "delta": {}, "finish_reason": one["finish_reason"]}]


def _words(text: str) -> list[str]:
    parts = text.split(" ")
    return [part + " " for part in parts[:-1]] + [parts[-1]] if text else []


def chunk(data: bytes) -> bytes:
    """Wrap bytes as one chunk of HTTP's chunked transfer coding; no bytes are its end."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def error(http: int, message: str, *, code: str | None = None, param: str | None = None, kind: str = "") -> Json:
    """Build OpenAI's error envelope."""
    if not kind:
        kind = "requests" if http == 429 else "server_error" if http >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code or _CODES.get(http)}}


def masked(key: str) -> str:
    """Mask a key the way OpenAI does in its message about a wrong one."""
    return key if len(key) <= 12 else f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"


def wrong_key(key: str, *, whole: bool = False) -> Json:
    """Build the envelope of a 401."""
    if not key:
        message = (
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY)."
        )
        return error(401, message, kind="invalid_request_error")
    message = (
        f"Incorrect API key provided: {key if whole else masked(key)}. "
        "You can find your API key at https://platform.openai.com/account/api-keys."
    )
    return error(401, message)


def models(names: Sequence[str]) -> Json:
    """Build the list of models."""
    data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "curator_llm"} for name in names]
    return {"object": "list", "data": data}
