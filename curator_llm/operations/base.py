"""What all operations share: the key, the body around the messages, and the columns that records become.

An operation turns a table into Requests, and Records into columns. It is frozen, pickles, and knows no server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from curator_llm.errors import ConfigurationError
from curator_llm.prompt.cells import NULL_INPUT, cell_texts
from curator_llm.prompt.messages import Messages, Table
from curator_llm.spec.nearest import nearest
from curator_llm.wire.answers import answer_in
from curator_llm.wire.envelopes import Completion, parse_completion, parse_error
from curator_llm.wire.exchange import Record, Request, Skip, Status
from curator_llm.wire.verdicts import Verdict, answered, malformed

#: A promise: equal keys in all releases of this version. Golden vectors stand in the tests.
KEY_VERSION = b"1"
CHAT_PATH = "chat/completions"

TEXT, COUNT, NUMBER = "string[pyarrow]", "Int64", "Float64"

#: The methods of an `LLMClient`.
ClientMethod = Literal["query_model", "query_reward_model"]

Column = tuple[str, str]
Values = dict[str, list[Any]]

#: Columns that cost nothing, free later from the journal: suffix, dtype.
DETAILS: dict[str, str] = {
    "finish_reason": TEXT,
    "input_tokens": COUNT,
    "output_tokens": COUNT,
    "cached_tokens": COUNT,
    "reasoning_tokens": COUNT,
    "reasoning": TEXT,
    "attempts": COUNT,
    "latency_s": NUMBER,
    "cost_usd": NUMBER,
    "model": TEXT,
    "request_id": TEXT,
}


class Operation(Protocol):
    """What the engine and the frame need of an operation."""

    @property
    def id(self) -> str:
        """Name and version, for example ``chat/1``."""

    @property
    def client_method(self) -> ClientMethod:
        """The method of an `LLMClient` that asks this."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are added: name, dtype."""

    @property
    def is_deterministic(self) -> bool:
        """Whether asking twice gives the same answer."""

    def requests(self, table: Table, rows: int) -> list[Request | Skip]:
        """Return each row's request, or why it has none."""

    def judge(self, body: bytes) -> Verdict:
        """Read a body under 200."""

    def read(self, outcomes: Sequence[Record | Skip]) -> Values:
        """Return the values of `columns`, row by row."""

    def cost_usd(self, record: Record) -> float | None:
        """Return what a record cost; None without a price or a count."""


def row_key(identity: str, path: str, sample: str, body: bytes) -> bytes:
    """Return the 16 bytes that name a request: who answers, what is sent, which sample.

    Examples
    --------
    >>> row_key("https://api.openai.com", "chat/completions", "", b"{}").hex()
    '72da8f4146e9ba9001346b55cf71a512'
    """
    parts = (KEY_VERSION, identity.encode(), path.encode(), sample.encode("utf-8", "surrogatepass"), body)
    return hashlib.sha256(b"\0".join(parts)).digest()[:16]


def check_details(details: bool | Sequence[str]) -> tuple[str, ...]:
    """Return the suffixes asked for.

    Raises
    ------
    ConfigurationError
        For an unknown one.
    """
    if isinstance(details, bool):
        return tuple(DETAILS) if details else ()
    names = [details] if isinstance(details, str) else list(details)
    for name in names:
        if name not in DETAILS:
            msg = f"`details` has no column {name!r}. {nearest(str(name), DETAILS)}"
            raise ConfigurationError(msg)
    return tuple(name for name in DETAILS if name in names)


@dataclass(frozen=True)
class Outcome:
    """A completion as an operation reads it: the verdict, and the values of its own columns."""

    verdict: Verdict
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ChatRequests:
    """The part chat and reward share: both post messages to ``chat/completions``.

    Parameters
    ----------
    model, identity : str
        Of the endpoint.
    messages : Messages
    body_fields : mapping
        What follows the messages in the body, in this order.
    output : str
        Name of the output column.
    sample_by : str, optional
        Column whose different values make different requests.
    details : tuple of str
        Suffixes of `DETAILS`.
    price_usd : (float, float), optional
        For a million input and output tokens.
    draw : int, default 0
        Another number makes other requests of the same rows: asked anew, whatever the journal has of earlier draws.
    """

    model: str
    identity: str
    messages: Messages
    body_fields: Mapping[str, Any]
    output: str
    sample_by: str | None = None
    details: tuple[str, ...] = ()
    price_usd: tuple[float, float] | None = None
    draw: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(dict.fromkeys([*self.messages.columns, *([self.sample_by] if self.sample_by else [])]))

    @property
    def is_deterministic(self) -> bool:
        """Whether sampling is off."""
        return self.body_fields.get("temperature") == 0

    @property
    def output_limit(self) -> int | None:
        """Most tokens of a reply, None when nothing limits it."""
        limit = self.body_fields.get("max_tokens") or self.body_fields.get("max_completion_tokens")
        return limit if isinstance(limit, int) else None

    @property
    def own_columns(self) -> tuple[Column, ...]:
        """The columns beside status, error and details."""
        raise NotImplementedError

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are added: name, dtype."""
        shared = [(f"{self.output}__status", TEXT), (f"{self.output}__error", TEXT)]
        return (*self.own_columns, *shared, *((f"{self.output}__{name}", DETAILS[name]) for name in self.details))

    def requests(self, table: Table, rows: int) -> list[Request | Skip]:
        """Encode the bodies of `rows` rows and name them by their keys."""
        head = b'{"model":%b,"messages":' % msgspec.json.encode(self.model)
        rest = msgspec.json.encode(self.body_fields)
        tail = b"}" if rest == b"{}" else b"," + rest[1:]
        limit = self.output_limit or 0
        samples = cell_texts(table[self.sample_by]) if self.sample_by else [""] * rows
        draw = f"\x1fdraw {self.draw}" if self.draw else ""  # nothing for the first one, which keeps its keys
        requests: list[Request | Skip] = []
        for messages, sample in zip(self.messages.encode(table, rows), samples, strict=True):
            if isinstance(messages, Skip):
                requests.append(messages)
                continue
            if isinstance(sample, Skip) and sample is not NULL_INPUT:
                requests.append(sample)
                continue
            body = head + messages + tail
            key = row_key(self.identity, CHAT_PATH, ("" if isinstance(sample, Skip) else sample) + draw, body)
            requests.append(Request(key, CHAT_PATH, body, len(messages) // 4 + limit))
        return requests

    def read_completion(self, completion: Completion) -> Outcome:
        """Say what a completion means for this operation."""
        raise NotImplementedError

    def judge(self, body: bytes) -> Verdict:
        """Read a body under 200."""
        completion = parse_completion(body)
        return self.read_completion(completion).verdict if completion else malformed(body)

    def read(self, outcomes: Sequence[Record | Skip]) -> Values:
        """Make all columns, each distinct record read once."""
        names = [name for name, _ in self.columns]
        rows: dict[int, tuple[Any, ...]] = {}
        values = []
        for outcome in outcomes:
            row = rows.get(id(outcome))
            if row is None:
                found = self._read_skip(outcome) if isinstance(outcome, Skip) else self._read_record(outcome)
                row = rows[id(outcome)] = tuple(found.get(name) for name in names)
            values.append(row)
        columns = zip(*values, strict=True) if values else ([] for _ in names)
        return {name: list(column) for name, column in zip(names, columns, strict=True)}

    def _read_skip(self, skip: Skip) -> dict[str, Any]:
        return {f"{self.output}__status": skip.status, f"{self.output}__error": f"{skip.code}: {skip.text}"}

    def _read_record(self, record: Record) -> dict[str, Any]:
        reply = bytes(record.reply)
        completion = parse_completion(reply) if answered(record.http) else None
        status, code, text = record.status, record.code, None
        values: dict[str, Any] = {}
        if completion is not None and record.final:
            # The verdict is taken again: a better reading of a reply we have is free.
            outcome = self.read_completion(completion)
            status, code, text = outcome.verdict.status, outcome.verdict.code, outcome.verdict.text
            values.update({self.output + suffix: value for suffix, value in outcome.values.items()})
        elif code is not None:
            said = parse_error(reply).message
            text = malformed(reply).text if answered(record.http) else f"{record.http or ''} {said}".strip()
        values[f"{self.output}__status"] = status
        values[f"{self.output}__error"] = None if code is None else f"{code}: {text}"
        for name in self.details:
            values[f"{self.output}__{name}"] = _DETAIL_OF[name](self, record, completion)
        return values

    def max_cost_usd(self, requests: Iterable[Request]) -> float | None:
        """Return what requests cost if each reply is as long as it may be; of replies without limit only the input."""
        if self.price_usd is None:
            return None
        limit = self.output_limit or 0
        return sum((r.tokens - limit) * self.price_usd[0] + limit * self.price_usd[1] for r in requests) / 1e6

    def cost_usd(self, record: Record) -> float | None:
        """Return what a record cost; None without a price or a count."""
        if self.price_usd is None or record.input_tokens is None or record.output_tokens is None:
            return None
        return (record.input_tokens * self.price_usd[0] + record.output_tokens * self.price_usd[1]) / 1e6


def final_verdict(completion: Completion, status: Status, code: str | None, text: str | None) -> Verdict:
    """Return the verdict for a reply that was paid for."""
    usage = completion.usage
    return Verdict(
        "final",
        status=status,
        code=code,
        text=text,
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        billed=True,
        model=completion.model,
    )


def reasoning_of(completion: Completion) -> str | None:
    """Return the reasoning of the first choice, kept apart by the server or found in front of the answer."""
    return answer_in(completion.choices[0].message).reasoning


def _cached_tokens(completion: Completion | None) -> int | None:
    details = completion and completion.usage and completion.usage.prompt_tokens_details
    return details.cached_tokens if details else None


def _reasoning_tokens(completion: Completion | None) -> int | None:
    details = completion and completion.usage and completion.usage.completion_tokens_details
    return details.reasoning_tokens if details else None


_DETAIL_OF: dict[str, Callable[[ChatRequests, Record, Completion | None], Any]] = {
    "finish_reason": lambda _, __, completion: completion and completion.choices[0].finish_reason,
    "input_tokens": lambda _, record, __: record.input_tokens,
    "output_tokens": lambda _, record, __: record.output_tokens,
    "cached_tokens": lambda _, __, completion: _cached_tokens(completion),
    "reasoning_tokens": lambda _, __, completion: _reasoning_tokens(completion),
    "reasoning": lambda _, __, completion: completion and reasoning_of(completion),
    "attempts": lambda _, record, __: record.attempts,
    "latency_s": lambda _, record, __: record.latency_s,
    "cost_usd": lambda operation, record, _: operation.cost_usd(record),
    "model": lambda _, record, __: record.model,
    "request_id": lambda _, record, __: record.request_id,
}
