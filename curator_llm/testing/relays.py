"""What stands between a client and its servers: a load balancer behind one address, and a forward proxy.

This module covers both as small TCP relays on loopback: they pass bytes on and read no more of them than they must.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_BACKLOG = 4096
_PIECE_BYTES = 65_536
_DENIED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_NO_WAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

Address = tuple[str, int]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Relay:
    """A listening socket in a thread of its own."""

    def __init__(self) -> None:
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        started: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="curator-llm-relay", daemon=True)
        self._thread.start()
        self._port = started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Streams | None:
        """Open the connection that this one is passed on to."""
        raise NotImplementedError

    def _run(self, started: concurrent.futures.Future[int]) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: concurrent.futures.Future[int]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._relay(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=_BACKLOG)
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            there = await self._connect(reader, writer)
            if there is not None:
                with contextlib.closing(there[1]):
                    await asyncio.gather(_pass_on(reader, there[1]), _pass_on(there[0], writer))


class Balancer(_Relay):
    """A load balancer for connections, as a Kubernetes Service or HAProxy in TCP mode: each goes to the next server.

    Parameters
    ----------
    base_urls : sequence of str
        Of the servers.

    Examples
    --------
    >>> from curator_llm.testing import FakeServer
    >>> with FakeServer() as one, FakeServer() as other, Balancer([one.base_url, other.base_url]) as balancer:
    ...     balancer.base_url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, base_urls: Sequence[str]) -> None:
        super().__init__()
        self._addresses = [_address(url) for url in base_urls]
        self._turn = itertools.count()

    @property
    def base_url(self) -> str:
        """The one address."""
        return f"http://127.0.0.1:{self._port}/v1"

    def add(self, base_url: str) -> None:
        """Add a server; connections that are open stay where they are."""
        self._addresses = [*self._addresses, _address(base_url)]

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Streams:  # noqa: ARG002
        addresses = self._addresses
        return await asyncio.open_connection(*addresses[next(self._turn) % len(addresses)])


class ForwardProxy(_Relay):
    """The proxy of a corporate network.

    Parameters
    ----------
    needs_password : bool, default False
        Refuse everything with a 407.
    opens_tls_as : str, optional
        Base URL of a server that answers in place of every https server, with a certificate of its own.

    Attributes
    ----------
    asked : list of str
        The first lines of the requests that came, for example ``CONNECT 127.0.0.1:8443 HTTP/1.1``.
    """

    def __init__(self, *, needs_password: bool = False, opens_tls_as: str | None = None) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._needs_password = needs_password
        self._instead = None if opens_tls_as is None else _address(opens_tls_as)

    @property
    def url(self) -> str:
        """What to give as ``proxy``."""
        return f"http://127.0.0.1:{self._port}"

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Streams | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first = head.split(b"\r\n", 1)[0].decode("latin-1")
        self.asked.append(first)
        if self._needs_password:
            writer.write(_DENIED)
            return None
        method, target, _ = first.split(" ")
        try:
            if method == "CONNECT":
                there = await asyncio.open_connection(*(self._instead or _address(f"https://{target}")))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                there = await asyncio.open_connection(*_address(target))
                there[1].write(head)
        except OSError:
            writer.write(_NO_WAY)
            return None
        return there


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()  # one half that ended ends the other: no client of ours half-closes


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
