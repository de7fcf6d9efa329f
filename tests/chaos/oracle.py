"""What each row of a run has to end with, and what it costs: computed from the script of faults, asking nobody.

A fault either ends its row (`ENDS`), is waited out (`WAITED_OUT`), or makes another attempt (`AGAIN`, `TWICE`); the
rest follows from the order in which a prompt meets them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from curator_llm.testing import FAULTS, answer_to, tokens_of
from curator_llm.testing.scripts import FaultScript

#: Ways to a server that see replies as they are, and ways that see texts and exceptions alone.
HTTP, CALLS = ("base_url", "sdk"), ("async client", "sync client")
WAYS = (*HTTP, *CALLS)
#: A row that keeps failing has between `max_attempts` and so many times that: as many as its line needs.
MOST_TIMES = 4


@dataclass(frozen=True)
class End:
    """What ends a row: status and code; whether the model worked for it, and whether the reply tells the tokens."""

    status: str = "ok"
    code: str | None = None
    paid: bool = True
    tells_usage: bool = True


@dataclass(frozen=True)
class Expected:
    """What a row ends with.

    Attributes
    ----------
    status, code : str, str or None
    fewest, most : int
        Attempts.
    lost : int
        Attempts of these that the server never saw: they met a connection that it was closing.
    waits : int
        Throttled tries, which are no attempts.
    billed : bool
        Whether the record has to say that it was, or may have been, paid for.
    reported, charged : (int, int)
        Input and output tokens: of the columns and the journal, and of the server's ledger. The difference is replies
        that were lost on their way, or were no completion.
    """

    status: str
    code: str | None
    fewest: int
    most: int
    waits: int = 0
    lost: int = 0
    billed: bool = False
    reported: tuple[int, int] = (0, 0)
    charged: tuple[int, int] = field(default=(0, 0))


_OK, _UNPAID = End(), {"paid": False, "tells_usage": False}
_TOO_LARGE = End("invalid", "too_large", tells_usage=False)
ENDS: dict[str, End] = {
    "http:400": End("rejected", "bad_request", **_UNPAID),
    "http:413": End("rejected", "too_large", **_UNPAID),
    "http:422": End("rejected", "bad_request", **_UNPAID),
    "context_length": End("rejected", "context_length", **_UNPAID),
    "refused_schema": End("rejected", "bad_request", **_UNPAID),  # of a stage that asks for none
    "content_filter_400": End("filtered", "content_filter", **_UNPAID),
    "should_retry:false": End("failed", "server_error", **_UNPAID),
    "null_content": End("empty", "no_content"),
    "empty_content": End("empty", "no_content"),
    "tool_calls_only": End("empty", "tool_calls_only"),
    "refusal": End("refused", "refusal"),
    "finish_length": End("truncated", "max_tokens"),
    "finish_content_filter": End("filtered", "content_filter"),
    "no_usage": End(tells_usage=False),
    "nan_usage": End(tells_usage=False),
    "huge_body:2": _TOO_LARGE,
    "endless_chunked": _TOO_LARGE,
    **dict.fromkeys(
        [
            "reasoning", "surrogate", "nul", "unordered_choices", "no_logprobs", "nan_logprobs", "wrong_content_type",
            "bad_utf8", "close_after_reply", "cut_stream", "error_in_stream",
        ],
        _OK,
    ),
}  # fmt: skip
#: What is waited out, for as long as it lasts; each costs nothing.
WAITED_OUT = (
    "rate_limited", "http:429", "http:503", "http:529", "retry_after:0", "retry_after:-5", "retry_after:nan",
    "retry_after:abc", "retry_after:0.05", "retry_after_ms:50", "retry_after_date:0", "retry_after_date:0/3600",
)  # fmt: skip
#: What makes another attempt.
AGAIN: dict[str, str] = {
    "http:408": "server_timeout", "http:425": "server_timeout", "http:409": "request_conflict",
    "http:500": "server_error", "http:502": "server_error", "http:504": "server_error", "bad_gateway": "server_error",
    "should_retry:true": "server_error",
}  # fmt: skip
#: The same, where the model may have worked, so that nothing but `max_attempts` bounds it.
AMBIGUOUS: dict[str, str] = dict.fromkeys(["reset", "close", "reset_mid_body", "short_body", "huge_header"], "reset")
#: What is tried twice and no more.
TWICE: dict[str, str] = {
    **dict.fromkeys(["hang", "hang_after_headers", "trickle"], "timeout"),
    **dict.fromkeys(
        [
            "empty_choices", "wrong_types", "no_choices", "list_body", "null_body", "empty_body", "truncated_json",
            "html_200", "html_as_json", "deep_json", "gzip_bomb:1",
        ],
        "malformed",
    ),
    "error_in_200": "error_in_200",
}  # fmt: skip
#: What stops the run: no row's matter.
RUN_FATAL = frozenset({"insufficient_quota", "echo_key", "redirect"})

#: What clients of texts and exceptions see otherwise: the SDK of ours takes a text for a list, and no text for none.
_UNSEEN: dict[str, End] = {
    "wrong_types": ENDS["null_content"],
    "tool_calls_only": ENDS["null_content"],
    "refusal": ENDS["null_content"],
    "finish_length": _OK,
    "finish_content_filter": _OK,
}
_UNREADABLE = frozenset({"bad_utf8"})
#: Clients of one's own read these bodies whole, as large as they are: they are no matter of an engine.
UNBOUNDED_FOR_CALLS = frozenset({"endless_chunked"})


def faults_for(way: str) -> list[str]:
    """Return every fault a row can have this way, with its parameter."""
    found = [*ENDS, *AGAIN, *AMBIGUOUS, *TWICE]
    return [fault for fault in found if not (way in CALLS and fault in UNBOUNDED_FOR_CALLS)]


def scripts_for(way: str) -> list[str]:
    """Return what to write in front of prompts, so that rows meet every fault, for good or once."""
    passing = [*WAITED_OUT, *AGAIN, *AMBIGUOUS, *TWICE]
    return ["fine", *faults_for(way), *(f"{fault}@1" for fault in passing), "rate_limited@1-2"]


def expected(
    script: FaultScript, prompt: str, *, way: str = "base_url", max_attempts: int = 5, lost: int = 0
) -> Expected:
    """Compute what a prompt's row ends with, its first `lost` attempts having been resets that the server never saw.

    Raises
    ------
    ValueError
        When it depends on chance: a script that fails `max_attempts` times and then answers.
    """
    cost = (tokens_of(prompt), tokens_of(answer_to(prompt)))
    attempts = ambiguous = lost
    waits = twice = charges = 0
    for number in itertools.count(1):
        fault = script(prompt, number)
        charges += fault is None or FAULTS[fault.partition(":")[0]].billed
        if fault in WAITED_OUT:
            waits += 1
            continue
        attempts += 1
        end = _end(fault, way)
        if end is not None:
            told = end.tells_usage and way in HTTP
            return Expected(
                end.status, end.code, attempts, attempts, waits, lost, bool(end.paid or ambiguous or twice),
                cost if told else (0, 0), (charges * cost[0], charges * cost[1]),
            )  # fmt: skip
        ambiguous += fault in AMBIGUOUS
        twice += fault in TWICE or fault in _UNREADABLE
        if twice >= min(2, max_attempts) or ambiguous >= max_attempts or attempts >= max_attempts:
            code = _code(fault, way)
            failed = Expected("failed", code, attempts, attempts, waits, lost, bool(ambiguous or twice))
            failed = replace(failed, charged=(charges * cost[0], charges * cost[1]))
            return failed if fault not in AGAIN else _brown_out(failed, script, prompt, fault)
    raise AssertionError


def _brown_out(failed: Expected, script: FaultScript, prompt: str, fault: str) -> Expected:
    most = MOST_TIMES * failed.most
    if any(script(prompt, failed.waits + number) != fault for number in range(failed.most, most + 1)):
        msg = f"whether {prompt!r} is given up depends on how its line does"
        raise ValueError(msg)
    return replace(failed, most=most if failed.most > 1 else 1)


def _end(fault: str | None, way: str) -> End | None:
    if fault is None:
        return _OK
    if way in CALLS:
        return None if fault in _UNREADABLE else _UNSEEN.get(fault, ENDS.get(fault))
    return ENDS.get(fault)


def _code(fault: str, way: str) -> str:
    if way in CALLS and fault in {"error_in_200", *_UNREADABLE}:
        return "malformed"
    return {**AGAIN, **AMBIGUOUS, **TWICE}[fault]
