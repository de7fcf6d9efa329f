"""What an exception of a client means: the reply it carries, or the fault behind it.

This module covers the exceptions of the openai SDK and the HTTP libraries below it (httpx2, or httpx as an older client
brings it along). They are known by name, up the chain of causes, so nothing is loaded that the client did not load.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from curator_llm.spec.addresses import origin_of
from curator_llm.wire.envelopes import one_line
from curator_llm.wire.exchange import Fault, FaultKind, Reply
from curator_llm.wire.headers import KEPT_HEADERS

#: Exceptions of the HTTP libraries, and whether the server may have seen the request.
_KINDS: dict[str, tuple[FaultKind, bool]] = {
    "ConnectTimeout": ("connect", False),
    "PoolTimeout": ("connect", False),
    "ConnectError": ("connect", False),
    "ProxyError": ("connect", False),
    "ReadTimeout": ("timeout", True),
    "WriteTimeout": ("timeout", True),
    "ReadError": ("reset", True),
    "WriteError": ("reset", True),
    "CloseError": ("reset", True),
    "RemoteProtocolError": ("reset", True),
    "LocalProtocolError": ("local", False),
    "UnsupportedProtocol": ("local", False),
    "InvalidURL": ("local", False),
}


def reply_in(error: BaseException, elapsed_s: float, max_bytes: int, redact: Callable[[bytes], bytes]) -> Reply | None:
    """Return the reply of a server, or of a proxy, that the SDK made an exception of; its first `max_bytes`."""
    for cause in _chain(error):
        if type(cause).__name__ == "ProxyError" and words_of(cause).startswith("407"):
            return Reply(407, {}, b"Proxy Authentication Required", elapsed_s)
    openai: Any = sys.modules.get("openai")
    if openai is None or not isinstance(error, openai.APIStatusError):
        return None
    response, body = error.response, b""
    with contextlib.suppress(Exception):  # a stream that nobody has read
        body = redact(response.content[:max_bytes])
    return Reply(response.status_code, kept(response.headers, redact), body, elapsed_s, origin_of(str(response.url)))


def fault_in(error: BaseException, elapsed_s: float, redact: Callable[[bytes], bytes]) -> Fault | None:
    """Return what went wrong on the way; None for an exception that says nothing about the network."""
    chain = list(_chain(error))
    named = [cause for cause in chain if type(cause).__name__ in _KINDS]
    known = _KINDS[type(named[0]).__name__] if named else _plain(error, chain)
    if known is None:
        return None
    kind, sent = known
    if kind == "connect":
        kind = _step(chain)
    text = _said(chain)
    return Fault(kind, sent, redact(text.encode("utf-8", "replace")).decode()[:500], elapsed_s)


def words_of(error: BaseException) -> str:
    """Return the first line of an exception's text; empty when it has none, or cannot say it."""
    try:
        return one_line(str(error).partition("\n")[0])
    except Exception:  # noqa: BLE001  a user's exception may do anything
        return ""


def kept(headers: Mapping[str, str], redact: Callable[[bytes], bytes]) -> dict[str, str]:
    """Take the headers that are kept, secrets redacted."""
    return {name: redact(headers[name].encode("utf-8", "replace")).decode() for name in KEPT_HEADERS if name in headers}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it stands for: its cause, or what it replaced (``from None``).

    A bare context is neither: it may be of a try before.
    """
    while error is not None:
        yield error
        error = error.__cause__ or (error.__context__ if error.__suppress_context__ else None)


def _plain(error: BaseException, chain: list[BaseException]) -> tuple[FaultKind, bool] | None:
    """Read an exception that no HTTP library named: what a client of one's own raises, whatever it did before."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return "certificate", False
    if isinstance(error, TimeoutError):
        return "timeout", True
    if not isinstance(error, OSError):
        return None
    unsent = any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in chain)
    return ("connect", False) if unsent else ("reset", True)


def _step(chain: list[BaseException]) -> FaultKind:
    """Tell how far a connection came."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return "certificate"
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return "dns"
    return "tls" if any(isinstance(cause, ssl.SSLError) for cause in chain) else "connect"


def _said(chain: list[BaseException]) -> str:
    """Return the innermost words: there the operating system, or TLS, says why."""
    names = {type(cause).__name__ for cause in chain}
    if "PoolTimeout" in names:
        return "no connection was free in the client's pool: raise the limits of its http_client"
    if "ConnectTimeout" in names:
        return "no connection in time"
    words = [said for cause in chain if (said := words_of(cause))]
    return words[-1] if words else type(chain[-1]).__name__
