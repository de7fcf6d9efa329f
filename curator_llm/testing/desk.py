"""Decides what a request gets: a completion, a refusal or a fault. No sockets: a request in, a decision out."""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from curator_llm.testing import envelopes
from curator_llm.testing.answers import cut, default_answer, prompt_of, tokens_of
from curator_llm.testing.envelopes import Json
from curator_llm.testing.faults import look_up
from curator_llm.testing.parser import HttpRequest
from curator_llm.testing.quota import Bucket
from curator_llm.testing.replies import Case, Reply, bearer, envelope, plain
from curator_llm.testing.scripts import FaultScript, LatencyScript

#: A constant, a function of the prompt, or a function of the prompt and the decoded body.
Answer = str | Mapping[str, Any] | Callable[..., str | Mapping[str, Any]]
RewardDialect = Literal["logprobs", "content", "number"]

_CHAT = "/chat/completions"
_MODELS = "/models"


@dataclass(frozen=True)
class Settings:
    """How the server behaves; the parameters of `FakeServer`."""

    answer: Answer | None = None
    latency: float | LatencyScript = 0.0
    models: tuple[str, ...] | None = None
    api_key: str | None = field(default=None, repr=False)
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst: float | None = None
    max_concurrent_requests: int | None = None
    faults: FaultScript | None = None
    redirect_to: str | None = None
    only_max_completion_tokens: bool = False
    only_max_tokens: bool = False
    reward_dialect: RewardDialect = "logprobs"


@dataclass(slots=True)
class Decision:
    """What a request gets, and after how many seconds."""

    reply: Reply
    wait_s: float = 0.0
    prompt: str = ""
    body: Json = field(default_factory=dict)
    attempt: int = 0
    fault: str | None = None


class Desk:
    """Keeps what outlives a request: the attempts of each prompt and the quotas."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.attempts: Counter[str] = Counter()
        self._number = 0
        self.use(settings, now)

    def use(self, settings: Settings, now: float) -> None:
        """Take other settings; the quotas start full."""
        self._settings = settings
        rpm, tpm, burst = settings.requests_per_minute, settings.tokens_per_minute, settings.burst
        self._requests = None if rpm is None else Bucket(rpm, burst, now)
        self._tokens = None if tpm is None else Bucket(tpm, None, now)
        self._takes_body = callable(settings.answer) and _takes_two(settings.answer)

    def decide(self, request: HttpRequest, in_flight: int, now: float) -> Decision:
        """Decide; `in_flight` counts the requests before this one."""
        settings = self._settings
        if request.path.endswith(_MODELS) and request.method == "GET":
            names = settings.models or ("fake-model",)
            return Decision(self._wrong_key(request) or envelope(200, envelopes.models(names)))
        if not request.path.endswith(_CHAT) or request.method != "POST":
            message = f"Invalid URL ({request.method} {request.path})"
            return Decision(envelope(404, envelopes.error(404, message, code="unknown_url")))
        body = _decode(request.body)
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            message = "We could not parse the JSON body of your request: it needs a list of messages."
            return Decision(envelope(400, envelopes.error(400, message, code="invalid_body")))
        prompt = prompt_of(body)
        refusal = self._wrong_key(request) or self._refusal(body, in_flight) or self._over_quota(body, now)
        if refusal is not None:
            return Decision(refusal, prompt=prompt, body=body)
        return self._serve(request, body, prompt)

    def _wrong_key(self, request: HttpRequest) -> Reply | None:
        given = bearer(request.headers)
        if self._settings.api_key is None or given == self._settings.api_key:
            return None
        return envelope(401, envelopes.wrong_key(given))

    def _refusal(self, body: Json, in_flight: int) -> Reply | None:
        settings = self._settings
        model = body.get("model")
        if settings.models is not None and model not in settings.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return envelope(404, envelopes.error(404, message))
        if settings.only_max_completion_tokens and "max_tokens" in body:
            message = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            )
            return envelope(400, envelopes.error(400, message, code="unsupported_parameter", param="max_tokens"))
        if settings.only_max_tokens and "max_completion_tokens" in body:
            message = "Unrecognized request argument supplied: max_completion_tokens"
            return envelope(400, envelopes.error(400, message))
        if settings.max_concurrent_requests is not None and in_flight >= settings.max_concurrent_requests:
            return envelope(503, envelopes.error(503, "The server is full.", code="queue_full"))
        return None

    def _over_quota(self, body: Json, now: float) -> Reply | None:
        if self._requests is None and self._tokens is None:
            return None
        wanted = tokens_of([m for m in body["messages"] if isinstance(m, dict)]) + (_max_tokens(body) or 0)
        for bucket, cost, what in ((self._requests, 1, "requests"), (self._tokens, wanted, "tokens")):
            wait_s = bucket.take(cost, now) if bucket else 0.0
            if bucket and wait_s:
                message = (
                    f"Rate limit reached for {what} per min: Limit {bucket.per_minute:g}. "
                    f"Please try again in {wait_s:.3f}s."
                )
                return envelope(
                    429,
                    envelopes.error(429, message, kind=what),
                    f"retry-after: {math.ceil(wait_s)}",
                    f"retry-after-ms: {math.ceil(wait_s * 1000)}",
                    *self._limits(),
                )
        return None

    def _limits(self) -> tuple[str, ...]:
        lines: list[str] = []
        for bucket, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            if bucket is not None:
                lines += [
                    f"x-ratelimit-limit-{what}: {bucket.per_minute:g}",
                    f"x-ratelimit-remaining-{what}: {max(0, int(bucket.left))}",
                ]
        return tuple(lines)

    def _serve(self, request: HttpRequest, body: Json, prompt: str) -> Decision:
        settings = self._settings
        self.attempts[prompt] += 1
        attempt = self.attempts[prompt]
        name = settings.faults(prompt, attempt) if settings.faults else None
        wait_s = settings.latency(prompt, attempt) if callable(settings.latency) else settings.latency
        case = Case(
            self._completion(body, prompt), body, request.headers, request.path, settings.redirect_to, self._limits()
        )
        usage = case.completion["usage"]
        tokens = (usage["prompt_tokens"], usage["completion_tokens"])
        if name is None:
            reply, billed = case.render(), True
        else:
            fault, parameter = look_up(name)
            reply, billed = fault.play(case, parameter), fault.billed
        if billed:
            reply.tokens = tokens
        return Decision(reply, wait_s, prompt, body, attempt, name)

    def _completion(self, body: Json, prompt: str) -> Json:
        self._number += 1
        if self._settings.answer is None and "reward" in str(body.get("model", "")):
            messages = [m for m in body["messages"] if isinstance(m, dict)]
            choice = envelopes.reward_choice(messages, self._settings.reward_dialect)
            return envelopes.completion(body, [choice], self._number)
        count = body.get("n") or 1
        return envelopes.completion(body, [self._choice(body, prompt, index) for index in range(count)], self._number)

    def _choice(self, body: Json, prompt: str, index: int) -> Json:
        given: Any = self._settings.answer
        if callable(given):
            given = given(prompt, body) if self._takes_body else given(prompt)
        if given is None:
            given = default_answer(prompt, body, index)
        message = dict(given) if isinstance(given, Mapping) else {"content": given}
        finish = message.pop("finish_reason", None)
        logprobs = message.pop("logprobs", None)
        limit, content = _max_tokens(body), message.get("content")
        if limit is not None and isinstance(content, str):
            message["content"], short = cut(content, limit)
            finish = finish or ("length" if short else None)
        if logprobs is None and body.get("logprobs") and isinstance(content, str):
            logprobs = envelopes.logprobs_of(message["content"])
        return envelopes.choice(index, message, finish or "stop", logprobs)


def failure(error: Exception) -> Reply:
    """Build the reply to a request for which a function of the test raised."""
    message = f"the fake server failed: {type(error).__name__}: {error}"
    return plain(500, json.dumps(envelopes.error(500, message)).encode())


def _decode(raw: bytes) -> Any:
    """Read JSON: fast, and slowly where only the standard library dares (lone surrogates)."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _max_tokens(body: Json) -> int | None:
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return limit if isinstance(limit, int) else None


def _takes_two(function: Callable[..., Any]) -> bool:
    """Tell whether a function takes the body after the prompt."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed) >= 2
