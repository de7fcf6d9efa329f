"""One client's connection: reads a request, waits its latency, writes its reply, tells the book.

Callbacks and no tasks: a request costs some tens of microseconds, and thousands can wait at once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from typing import cast

from curator_llm.testing.desk import Decision, Desk, failure
from curator_llm.testing.envelopes import error
from curator_llm.testing.ledger import Book, End, Seen, Ticket
from curator_llm.testing.parser import BadRequestError, HttpRequest, RequestParser
from curator_llm.testing.replies import envelope


class Hub:
    """What the connections of one server share; belongs to the thread of its loop."""

    def __init__(self, desk: Desk, book: Book) -> None:
        self.desk = desk
        self.book = book
        self.connections: set[Connection] = set()
        self.held: list[Connection] = []
        self.paused = False
        self.closing = False

    def open(self) -> None:
        """Take connections."""
        self.closing = False

    async def close(self) -> None:
        """Cut every connection, those too that are just coming in, and see them gone."""
        self.closing = True
        self.held.clear()
        for _ in range(3):
            await asyncio.sleep(0)
        while self.connections:
            self.abort()
            await asyncio.sleep(0)

    def pause(self) -> None:
        """Hold every reply from now on."""
        self.paused = True

    def resume(self, count: int | None = None) -> None:
        """Write what was held: all of it and go on, or the oldest `count` and stay paused."""
        if count is None:
            self.paused = False
        held, self.held = self.held[:count], self.held[count:] if count is not None else []
        for connection in held:
            connection.write()

    def abort(self) -> None:
        """Cut every connection."""
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection; requests are answered one after the other."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser()
        self._ticket: Ticket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: Iterator[tuple[float, bytes]] = iter(())
        self._writing = self._full = self._aborted = self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)
        # No buffer of ours: a reply counts as written when the kernel has taken all of it.
        self._transport.set_write_buffer_limits(high=0)
        self._hub.connections.add(self)
        self._number = self._hub.book.connected()
        if self._hub.closing:
            self.abort()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._parser.feed(data)
        if self._ticket is None:
            self._read()

    def pause_writing(self) -> None:  # noqa: D102
        self._full = True

    def resume_writing(self) -> None:  # noqa: D102
        self._full = False
        if self._writing:
            with self._hub.book.lock:
                self._step()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102
        if self._timer is not None:
            self._timer.cancel()
        if self._ticket is not None:
            self._end("broken" if self._aborted else "dropped")
        self._hub.connections.discard(self)
        self._hub.book.disconnected()

    def abort(self) -> None:
        """Cut the connection; the client sees a reset."""
        self._aborted = True
        open_socket = self._transport.get_extra_info("socket")
        if open_socket is not None:  # TLS gives its socket up before it says that the connection is lost
            open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _read(self) -> None:
        if self._ticket is not None or self._transport.is_closing():
            return
        try:
            request = self._parser.next()
        except BadRequestError as bad:
            self._transport.write(envelope(400, error(400, str(bad))).wire)
            self._transport.close()
            return
        if request is not None:
            self._begin(request)
        elif self._parser.wants_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin(self, request: HttpRequest) -> None:
        hub = self._hub
        now = time.monotonic()
        try:
            decision = hub.desk.decide(request, hub.book.in_flight, now)
        except Exception as bad:  # noqa: BLE001  a mistake in the test's functions must not look like a hang
            hub.book.error(f"{type(bad).__name__}: {bad}")
            decision = Decision(failure(bad))
        self._reply = decision.reply
        self._last = request.headers.get("connection", "").lower() == "close"
        self._ticket = hub.book.begin(
            Seen(
                decision.prompt, decision.body, request.body, request.headers, request.method, request.path,
                decision.attempt, decision.fault, now, self._number,
            )
        )  # fmt: skip
        if decision.wait_s > 0:
            self._timer = self._loop.call_later(decision.wait_s, self._due)
        else:
            self._due()

    def _due(self) -> None:
        self._timer = None
        if self._hub.paused:
            self._hub.held.append(self)
        else:
            self.write()

    def write(self) -> None:
        """Write the reply, as fast as the client reads it."""
        if self._ticket is None or self._transport.is_closing():
            return
        self._writing = True
        self._pieces = iter(self._reply.pieces)
        with self._hub.book.lock:
            self._transport.write(self._reply.wire)
            self._step()

    def _step(self) -> None:
        if self._full or self._timer is not None:
            return
        piece = next(self._pieces, None)
        if piece is None:
            self._finish()
        else:
            self._timer = self._loop.call_later(piece[0], self._write_piece, piece[1])

    def _write_piece(self, data: bytes) -> None:
        self._timer = None
        with self._hub.book.lock:
            self._transport.write(data)
            self._step()

    def _finish(self) -> None:
        then = "close" if self._last and self._reply.then == "keep" else self._reply.then
        if then == "hang":
            return
        if self._reply.whole:
            self._end("answered")
        else:
            self._aborted = True
        if then == "reset":
            self.abort()
        elif then == "close":
            self._transport.close()
        else:
            self._loop.call_soon(self._read)

    def _end(self, end: End) -> None:
        if self._ticket is None:
            return
        ticket, reply, started = self._ticket, self._reply, self._writing
        self._ticket, self._writing = None, False
        if started:
            self._hub.book.end(ticket, end, reply.http, reply.tokens)
        else:
            self._hub.book.end(ticket, end, None, (0, 0))
