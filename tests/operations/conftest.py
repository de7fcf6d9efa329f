"""Records as the engine makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from curator_llm.journal.record import embed, embed_text
from curator_llm.operations.base import Operation
from curator_llm.wire.exchange import Fault, Record, Reply
from curator_llm.wire.verdicts import judge


@pytest.fixture
def completion() -> Callable[..., bytes]:
    """Return a function that writes the body of a chat completion."""

    def write(content: Any = "hello", *, finish: str = "stop", logprobs: Any = None, **fields: Any) -> bytes:
        message = {"role": "assistant", "content": content, **fields}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
        usage = {"prompt_tokens": 11, "completion_tokens": 3}
        return json.dumps({"id": "c", "model": "m-2026", "choices": [choice], "usage": usage}).encode()

    return write


@pytest.fixture
def record() -> Callable[..., Record]:
    """Return a function that makes the record of a request's last reply or fault."""

    def make(operation: Operation, outcome: bytes | Reply | Fault, **changes: Any) -> Record:
        outcome = Reply(200, {}, outcome, 0.5) if isinstance(outcome, bytes) else outcome
        verdict = judge(outcome, operation.judge, b"{}")
        reply = outcome if isinstance(outcome, Reply) else None
        fields: dict[str, Any] = {
            "key": "0" * 32,
            "op": operation.id,
            "status": verdict.status,
            "code": verdict.code,
            "final": verdict.kind == "final",
            "http": reply.http if reply else None,
            "attempts": 2,
            "at": 1.0,
            "reply": embed(reply.body) if reply else embed_text(verdict.text or ""),
            "model": verdict.model,
            "request_id": "req-1",
            "input_tokens": verdict.input_tokens,
            "output_tokens": verdict.output_tokens,
            "billed": verdict.billed,
            "latency_s": 0.5,
        }
        return Record(**{**fields, **changes})

    return make
