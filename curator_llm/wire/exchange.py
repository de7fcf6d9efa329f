"""What crosses between the rooms: a Request goes to a transport, a Reply or a Fault comes back, a Record is kept.

This module covers the shapes alone. Operations fill a Request, transports a Reply or a Fault, the engine a Record.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal[
    "ok", "truncated", "filtered", "refused", "empty", "invalid", "rejected", "failed", "skipped", "not_attempted"
]
#: What a row can end with, in the order of summaries.
STATUSES: tuple[Status, ...] = (
    "ok",
    "truncated",
    "filtered",
    "refused",
    "empty",
    "invalid",
    "rejected",
    "failed",
    "skipped",
    "not_attempted",
)

FaultKind = Literal[
    "connect", "dns", "tls", "certificate", "reset", "timeout", "too_large", "local", "closed", "client_error"
]


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row's call, ready to send.

    Attributes
    ----------
    key : bytes
        16 bytes; equal keys are one request.
    path : str
        Below the base URL, for example ``chat/completions``.
    body : bytes
        The JSON that is sent, byte for byte.
    tokens : int
        Worst-case estimate of input and output tokens, for limits.
    """

    key: bytes
    path: str
    body: bytes
    tokens: int


class Skip(msgspec.Struct, frozen=True, gc=False):
    """A row that sends nothing: its status, code and text are known already."""

    status: Status
    code: str
    text: str


class Reply(msgspec.Struct, frozen=True):
    """What a server answered, whatever the status.

    Attributes
    ----------
    http : int
        Status code.
    headers : dict of str to str
        Lower-case names.
    body : bytes
        Whole, undecoded.
    elapsed_s : float
        From sending to the last byte.
    origin : str
        Who answered, ``scheme://host:port``.
    """

    http: int
    headers: dict[str, str]
    body: bytes
    elapsed_s: float
    origin: str = ""


class Fault(msgspec.Struct, frozen=True):
    """Why there is no reply.

    Attributes
    ----------
    kind : str
        ``connect``, ``dns`` and ``tls`` never reached the server; ``certificate`` did not trust it; ``local`` could not
        be encoded; ``closed`` means this process is ending; ``client_error`` is an exception of a user's client.
    sent : bool
        Whether the server may have seen the request, and may charge for it.
    message : str
        For the row's error column; holds no secret.
    elapsed_s : float
        From sending to the fault.
    """

    kind: FaultKind
    sent: bool
    message: str
    elapsed_s: float = 0.0


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """What the journal keeps of a request. Columns are made from records alone.

    Attributes
    ----------
    key : str
        32 hex digits.
    op : str
        Operation id, for example ``chat/1``.
    status, code : str
        How the request ended; the code is null for ok.
    final : bool
        Whether a rerun takes this record instead of asking again.
    http : int or None
        Status code of the last reply, null when there was none.
    origin, model, request_id : str or None
        Who answered, as it calls itself.
    input_tokens, output_tokens : int or None
        As reported by the server; null when it did not say.
    billed : bool
        Whether the server charged for it, or may have.
    attempts : int
        How often it was sent, throttled tries not counted.
    latency_s : float
        Of the last attempt.
    at : float
        Seconds since the epoch at which it ended.
    run : str or None
        The run that paid.
    budget : str or None
        The budget it was paid from.
    spent : dict of str to float or None
        What all its attempts cost that budget: requests, tokens, usd.
    reply : msgspec.Raw
        Valid JSON: the body as received, or a string that says what came instead.
    """

    key: str
    op: str
    status: Status
    final: bool
    attempts: int
    at: float
    reply: msgspec.Raw
    v: int = 1
    code: str | None = None
    http: int | None = None
    origin: str | None = None
    model: str | None = None
    request_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    billed: bool = False
    latency_s: float = 0.0
    run: str | None = None
    budget: str | None = None
    spent: dict[str, float] | None = None
