"""The default transport: pyreqwest (hyper and rustls) for servers reached by base URL and key.

What it must be told, as measured: no environment proxy, no redirects, no decompression, bodies read in capped pieces,
and a deadline of its own. A coroutine inside it is never cancelled: that would neither drop the request at the server
nor free its connection.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

# Imported at start: pyreqwest loads it at the first error, and aborts the process when no file can be opened then.
import pyreqwest.exceptions as faults
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.proxy import ProxyBuilder

from curator_llm.engine.credentials import Credentials
from curator_llm.engine.redaction import Redaction
from curator_llm.engine.transport.deadlines import CONNECT_TIMEOUT_S
from curator_llm.engine.transport.renewal import Renewal
from curator_llm.engine.transport.replicas import Replicas
from curator_llm.errors import ConfigurationError, EngineError
from curator_llm.spec.endpoint import Endpoint
from curator_llm.wire.exchange import Fault, FaultKind, Reply, Request
from curator_llm.wire.headers import KEPT_HEADERS

#: What is read of a body at a time; a large piece is held twice for a moment.
_PIECE_BYTES = 1 << 20
#: What hyper says of a connection that was not there yet; all else under "(Connect)" is TLS.
_CONNECTING = ("tcp connect", "timed out", "deadline", "tunnel error: unsuccessful")


class PyreqwestTransport:
    """Sends to the address with the fewest requests in flight.

    Parameters
    ----------
    endpoint : Endpoint
    max_reply_bytes : int
        A larger body is dropped.
    idle_s, age_s : float
        How long a connection is kept, unused and in use.

    Raises
    ------
    AuthenticationError
        When the key cannot be found on this machine.
    ConfigurationError
        When `ca_file` or `proxy` cannot be used.
    EngineError
        In a process forked from one that had sent requests.
    """

    def __init__(self, endpoint: Endpoint, *, max_reply_bytes: int, idle_s: float, age_s: float) -> None:
        self._credentials = Credentials(endpoint)
        self._redaction: Redaction = self._credentials.redaction
        self._renewal = Renewal(age_s)
        self._replicas = Replicas(endpoint.base_urls)
        self._timeout_s = endpoint.timeout
        self._timeout = timedelta(seconds=endpoint.timeout)
        self._max_reply_bytes = max_reply_bytes
        self._client = _client(endpoint, idle_s)

    @property
    def key_version(self) -> int:
        """Grows when `refresh_key` has looked for another key."""
        return self._credentials.version

    @property
    def has_spare(self) -> bool:
        """Whether there are several addresses and one of them does not rest."""
        return self._replicas.has_spare(time.monotonic())

    def refresh_key(self, version: int) -> bool:
        """Resolve the references to secrets again, unless that was done since `version`."""
        return self._credentials.refresh(version)

    def check(self, request: Request) -> None:
        """Refuse nothing: the body goes out as it is."""

    async def send(self, request: Request) -> Reply | Fault:
        """Send once, to the replica with the fewest in flight."""
        started, sent = time.monotonic(), False
        replica = self._replicas.take(started)
        outcome: Reply | Fault
        try:
            post = self._client.post(f"{replica.base_url}/{request.path}").headers(self._credentials.headers)
            if self._renewal.is_due():
                post = post.header("connection", "close")
            stream = post.body_bytes(request.body).timeout(self._timeout).build_streamed()
            sent = True
            async with stream as response:
                body = await self._read(response.body_reader.read)
                elapsed_s = time.monotonic() - started
                if body is None:
                    said = f"the reply is larger than {self._max_reply_bytes:,} bytes"
                    outcome = Fault("too_large", True, said, elapsed_s)
                else:
                    headers = self._headers(response.get_header)
                    words = self._redaction.redact if response.status == 200 else self._redaction.redact_words
                    body = words(body)
                    outcome = Reply(response.status, headers, body, elapsed_s, replica.origin)
        except faults.PyreqwestError as error:
            outcome = self._fault(error, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001  a transport never raises: whatever it is belongs to this row
            said = self._redaction.text(f"{type(error).__name__}: {error}")[:500]
            outcome = Fault("reset" if sent else "local", sent, said, time.monotonic() - started)
        if isinstance(outcome, Reply):
            self._renewal.worked(outcome.elapsed_s)
        self._replicas.give_back(replica, failed=_is_sick(outcome), now=time.monotonic())
        return outcome

    async def close(self) -> None:
        """Let idle connections go."""
        await self._client.close()

    def _headers(self, get: Callable[[str], str | None]) -> dict[str, str]:
        """Take the headers that are kept, secrets redacted; one that is no text is left out."""
        headers = {}
        for name in KEPT_HEADERS:
            with contextlib.suppress(ValueError):
                if (value := get(name)) is not None:
                    headers[name] = self._redaction.text(value)
        return headers

    async def _read(self, read: object) -> bytes | None:
        pieces, size = [], 0
        while (piece := await read(min(_PIECE_BYTES, self._max_reply_bytes + 1 - size))) is not None:  # type: ignore[operator]
            pieces.append(piece.to_bytes())
            size += len(pieces[-1])
            if size > self._max_reply_bytes:
                return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fault(self, error: faults.PyreqwestError, elapsed_s: float) -> Reply | Fault:
        """Read the causes: the names of the exceptions do not tell "never sent" from "maybe billed"."""
        details = getattr(error, "details", None) or {}
        causes = [str(cause.get("message")) for cause in details.get("causes") or []]
        said = " ".join(causes)
        kind: FaultKind = "reset"
        if "proxy authorization required" in said:
            return Reply(407, {}, b"Proxy Authentication Required", elapsed_s)  # the proxy's reply to CONNECT
        if "os error 24" in said:
            kind = "connect"  # out of files: nothing was sent
        elif "dns error" in said:
            kind = "dns"
        elif "peer certificate" in said:
            kind = "certificate"
        elif "(Connect)" in said:
            kind = "connect" if any(step in said for step in _CONNECTING) else "tls"
        elif isinstance(error, faults.ClientClosedError):
            kind = "closed"
        elif isinstance(error, TimeoutError):
            kind = "timeout"
            causes = [f"no complete reply within {self._timeout_s:g} s"]
        elif isinstance(error, faults.BuilderError):
            kind = "local"
        text = causes[-1] if causes else error.message
        sent = kind in {"reset", "timeout"}
        return Fault(kind, sent, self._redaction.text(text)[:500], elapsed_s)


def _is_sick(outcome: Reply | Fault) -> bool:
    """Tell whether an outcome speaks against the replica, not against the row."""
    if isinstance(outcome, Fault):
        return outcome.kind not in {"local", "too_large", "closed"}
    return outcome.http >= 500 and outcome.http not in {503, 529}


def _client(endpoint: Endpoint, idle_s: float) -> Client:
    builder = (
        ClientBuilder()
        .http1_only()
        .follow_redirects(False)
        .referer(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .tcp_nodelay(True)
        .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
        .pool_idle_timeout(timedelta(seconds=idle_s))
        .pool_max_idle_per_host(endpoint.max_concurrent_requests)
    )
    if endpoint.proxy is None:
        builder = builder.no_proxy()
    elif endpoint.proxy != "env":
        try:
            builder = builder.no_proxy().proxy(ProxyBuilder.all(endpoint.proxy))
        except Exception:  # noqa: BLE001  the library does not say which
            msg = f"`proxy` is {endpoint.proxy!r}: give a URL such as 'http://proxy.example:3128', or 'env'."
            raise ConfigurationError(msg) from None
    if endpoint.ca_file is not None:
        try:
            builder = builder.add_root_certificate_pem(Path(endpoint.ca_file).expanduser().read_bytes())
        except Exception as error:  # noqa: BLE001  a missing file, or one that is no PEM
            msg = f"`ca_file` {endpoint.ca_file!r} cannot be used here ({type(error).__name__}): give a PEM file."
            raise ConfigurationError(msg) from None
    try:
        return builder.build()
    except RuntimeError:
        msg = (
            "This process was forked from one that had sent requests, and its network threads did not come along. "
            "Start processes with 'spawn' or 'forkserver' (Dask does), or fork before the first request."
        )
        raise EngineError(msg) from None
