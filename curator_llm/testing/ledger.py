"""What the fake server saw and did: every request, what was in flight at the same time, and the bill.

This module covers the snapshot a test reads (`Ledger`, `Seen`) and the book the server writes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec

End = Literal["answered", "dropped", "broken"]


class Seen(msgspec.Struct, frozen=True):
    """One request the server has read to its end: one attempt of a client.

    Attributes
    ----------
    prompt : str
        The text of the last user message; empty for other requests.
    body : dict
        The decoded body; empty when it was not a JSON object.
    raw : bytes
        The body as it came.
    headers : dict of str to str
        Names in lower case. Holds what the client sent, its key included, and is therefore not in the repr.
    method, path : str
        Of the request line, for example ``POST`` and ``/v1/chat/completions``.
    attempt : int
        How often this prompt has come as far as the faults, this time included; 0 when the request was refused before
        (key, model, quota, not a chat completion).
    fault : str or None
        The fault it met, with its parameter.
    http : int or None
        The status it was answered with; None while it waits, and when no status was sent.
    end : {"answered", "dropped", "broken"} or None
        How it ended: the reply was written to its end; the client went away before; the server broke off. None while it
        is in flight.
    at_s, done_s : float or None
        When it was read and when it ended, seconds on the clock of ``time.monotonic``.
    connection : int
        The number of the connection it came on, from 1.
    """

    prompt: str
    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    method: str
    path: str
    attempt: int
    fault: str | None
    at_s: float
    connection: int
    http: int | None = None
    end: End | None = None
    done_s: float | None = None

    def __repr__(self) -> str:
        state = f"attempt={self.attempt}, fault={self.fault!r}, http={self.http}, end={self.end!r}"
        return f"Seen({self.prompt[:60]!r}, {state})"


@dataclass(frozen=True)
class Ledger:
    """What the server had seen at one moment. A snapshot: it does not change any more.

    ``requests == answered + dropped + broken + in_flight`` holds at every moment since the last `FakeServer.reset` that
    found nothing in flight.

    Attributes
    ----------
    requests : int
        Requests read to their end: every attempt of every client, whatever became of it.
    answered : int
        Replies written to their end, whatever their status.
    dropped : int
        Requests whose client went away before the reply was written.
    broken : int
        Requests the server broke off, because of a fault (`reset`, `short_body`) or because it was closed.
    by_status : dict of int to int
        Replies by HTTP status; sums to `answered`.
    by_fault : dict of str to int
        How often each fault was met, by its full name.
    in_flight, peak_in_flight : int
        Requests read and not yet ended, now and at the most. Counted from the moment the last byte of the request is
        read until the last byte of the reply is handed to the kernel or the client is gone. A client that drops a
        request and at once sends another on a new connection can be seen in the other order, and count as two for that
        moment.
    connections, peak_connections, connections_opened : int
        Open now, at the most, and in total.
    input_tokens, output_tokens : int
        What a real server would have billed, by `tokens_of`.
    seen : tuple of Seen
        The requests in the order they were read, the first ``remember`` of them.
    errors : tuple of str
        What went wrong in the functions the test gave (`answer`, `latency`, `faults`).

    Examples
    --------
    >>> Ledger(requests=2, answered=2, by_status={200: 1, 429: 1}).by_status[429]
    1
    """

    requests: int = 0
    answered: int = 0
    dropped: int = 0
    broken: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    by_fault: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    peak_in_flight: int = 0
    connections: int = 0
    peak_connections: int = 0
    connections_opened: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seen: tuple[Seen, ...] = field(default=(), repr=False)
    errors: tuple[str, ...] = ()

    @property
    def prompts(self) -> list[str]:
        """The prompts of the requests, in the order they were read."""
        return [seen.prompt for seen in self.seen]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The decoded bodies of the requests, in the order they were read."""
        return [seen.body for seen in self.seen]

    @property
    def headers(self) -> list[dict[str, str]]:
        """The headers of the requests, in the order they were read."""
        return [seen.headers for seen in self.seen]

    @cached_property
    def attempts(self) -> Counter[str]:
        """How many requests came for each prompt."""
        return Counter(self.prompts)

    def mean_in_flight(self, since_s: float | None = None, until_s: float | None = None) -> float:
        """Give the average number of requests in flight, weighted by time.

        Parameters
        ----------
        since_s, until_s : float, optional
            The window, seconds on the clock of ``time.monotonic``. Default: from the first request read to the last one
            read, which is the time in which a client still had rows to send.

        Returns
        -------
        float
            The average; 0 for a window of no length.

        Raises
        ------
        ValueError
            When the ledger does not remember every request.

        Examples
        --------
        >>> def seen(at_s, done_s):
        ...     return Seen("", {}, b"", {}, "POST", "/", 1, None, at_s, 1, done_s=done_s)
        >>> Ledger(requests=2, seen=(seen(0.0, 1.0), seen(0.5, 1.5))).mean_in_flight(0.0, 1.0)
        1.5
        """
        if len(self.seen) < self.requests:
            msg = f"{len(self.seen)} of {self.requests} requests are remembered: give the server a larger remember="
            raise ValueError(msg)
        if not self.seen:
            return 0.0
        start = self.seen[0].at_s if since_s is None else since_s
        stop = self.seen[-1].at_s if until_s is None else until_s
        if stop <= start:
            return 0.0
        ends = (stop if seen.done_s is None else seen.done_s for seen in self.seen)
        busy_s = sum(
            max(0.0, min(end, stop) - max(seen.at_s, start)) for seen, end in zip(self.seen, ends, strict=True)
        )
        return busy_s / (stop - start)


class Ticket(NamedTuple):
    """Where a request stands in the book."""

    seen: Seen
    place: int
    era: int


class Book:
    """The ledger while it is written: by the server's loop, read by any thread."""

    def __init__(self, remember: int) -> None:
        #: Held while a reply is written and noted: a client that has its reply finds it in the ledger.
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._remember = remember
        self._version = 0
        self._connection = 0
        self._era = 0
        self._in_flight = 0
        self._connections = 0
        self._clear()

    def _clear(self) -> None:
        self._requests = self._dropped = self._broken = 0
        self._input_tokens = self._output_tokens = 0
        self._statuses: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._seen: list[Seen] = []
        self._errors: list[str] = []
        self._opened = 0
        self._peak = self._in_flight
        self._peak_connections = self._connections

    def reset(self) -> None:
        """Forget the past; what is open stays counted as open."""
        with self.lock:
            self._era += 1
            self._clear()
            self._tell()

    @property
    def in_flight(self) -> int:
        """How many requests are read and not ended."""
        return self._in_flight

    def begin(self, seen: Seen) -> Ticket:
        """Note a request that has been read."""
        with self.lock:
            place = self._requests
            self._requests += 1
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
            if seen.fault is not None:
                self._faults[seen.fault] += 1
            if len(self._seen) < self._remember:
                self._seen.append(seen)
            self._tell()
            return Ticket(seen, place, self._era)

    def end(self, ticket: Ticket, end: End, http: int | None, tokens: tuple[int, int]) -> None:
        """Note how a request ended; tokens are (input, output) billed."""
        done_s = time.monotonic()
        with self.lock:
            self._in_flight -= 1
            if ticket.era == self._era:
                if end == "answered":
                    self._statuses[http or 0] += 1
                elif end == "dropped":
                    self._dropped += 1
                else:
                    self._broken += 1
                self._input_tokens += tokens[0]
                self._output_tokens += tokens[1]
                if ticket.place < len(self._seen):
                    self._seen[ticket.place] = msgspec.structs.replace(ticket.seen, http=http, end=end, done_s=done_s)
            self._tell()

    def connected(self) -> int:
        """Note a new connection, and give its number."""
        with self.lock:
            self._opened += 1
            self._connection += 1
            self._connections += 1
            self._peak_connections = max(self._peak_connections, self._connections)
            self._tell()
            return self._connection

    def disconnected(self) -> None:
        """Note that a connection is gone."""
        with self.lock:
            self._connections -= 1
            self._tell()

    def error(self, text: str) -> None:
        """Note that something the test gave raised."""
        with self.lock:
            self._errors.append(text)
            self._tell()

    def snapshot(self) -> Ledger:
        """Give the book as it stands."""
        with self.lock:
            return self._snapshot()

    def wait_until(self, holds: Callable[[Ledger], object], timeout_s: float) -> tuple[bool, Ledger]:
        """Wait until ``holds(ledger)`` is true."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self.lock:
                version, ledger = self._version, self._snapshot()
            # Outside the lock: what the test gave may itself read the ledger.
            if holds(ledger):
                return True, ledger
            with self.lock:
                while self._version == version:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        return False, ledger
                    self._changed.wait(left_s)

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _snapshot(self) -> Ledger:
        return Ledger(
            requests=self._requests,
            answered=self._statuses.total(),
            dropped=self._dropped,
            broken=self._broken,
            by_status=dict(self._statuses),
            by_fault=dict(self._faults),
            in_flight=self._in_flight,
            peak_in_flight=self._peak,
            connections=self._connections,
            peak_connections=self._peak_connections,
            connections_opened=self._opened,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            seen=tuple(self._seen),
            errors=tuple(self._errors),
        )
