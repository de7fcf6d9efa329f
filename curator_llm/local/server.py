"""Start and stop an embedded model's server.

The server runs in a child process: its threads never compete for this process's interpreter lock, Ctrl-C reaches this
process alone, and a crash of the model is not a crash of the pipeline.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast
from urllib.parse import urlsplit

import click
from dask.system import CPU_COUNT

from curator_llm.config import parse_duration
from curator_llm.errors import ConfigurationError, EndpointUnreachableError
from curator_llm.local.models import find_weights

_CHILD = Path(__file__).with_name("child.py")
_STOP_S = 5.0  # then it is killed
_ERROR_LINES = 15


class LocalServer:
    """An embedded model, served on the loopback interface while the context is open.

    Ready when ``with`` or :meth:`start` returns. Other processes of this machine reach it too, other machines do not.
    It ends with this process, however this process ends.

    Parameters
    ----------
    model : str, default "smollm2"
        A name in :data:`LOCAL_MODELS`.
    port : int, default 0
        0 takes a free one.
    slots : int, default 4
        Requests answered at the same time; more of them wait in the server. The endpoint's
        ``max_concurrent_requests`` should be this number.
    context_tokens : int, default 2048
        Longest prompt and reply together, in tokens; a longer request is answered with status 400.
    threads : int, optional
        Default: the CPUs this process may use.
    start_timeout : str or float, default "60s"
        Seconds or a duration string.

    Attributes
    ----------
    model : str
        The model's name, for requests.
    slots : int
        As given.

    Raises
    ------
    ConfigurationError
        When made: the model is unknown or not installed, or a number is out of range. When started: the port is taken.
    EndpointUnreachableError
        When started: the server ended or was not ready in time; the message holds what it last wrote.

    Notes
    -----
    Cost: about 1.5 seconds to start and 350 MB of memory for ``smollm2``.

    Examples
    --------
    >>> with LocalServer("smollm2") as server:
    ...     print(server.model, server.base_url.startswith("http://127.0.0.1:"))
    smollm2 True
    """

    def __init__(
        self,
        model: str = "smollm2",
        *,
        port: int = 0,
        slots: int = 4,
        context_tokens: int = 2048,
        threads: int | None = None,
        start_timeout: str | float = "60s",
    ) -> None:
        threads = CPU_COUNT if threads is None else threads
        for name, value, least, most in (
            ("port", port, 0, 65_535),
            ("slots", slots, 1, 256),
            ("context_tokens", context_tokens, 64, 1_000_000),
            ("threads", threads, 1, 512),
        ):
            if not least <= value <= most:
                msg = f"`{name}` is {value!r}: give a whole number from {least:,} to {most:,}."
                raise ConfigurationError(msg)
        self.model = model
        self.slots = slots
        self._port = port
        self._start_timeout_s = parse_duration(start_timeout, "start_timeout")
        self._settings = {
            "model": model,
            "weights": str(find_weights(model)),
            "port": port,
            "slots": slots,
            "context_tokens": context_tokens,
            "threads": threads,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def __repr__(self) -> str:
        where = f"base_url={self.base_url!r}" if self._process else "stopped"
        return f"LocalServer({self.model!r}, {where})"

    @property
    def base_url(self) -> str:
        """The address to give to an Endpoint, for example ``http://127.0.0.1:41873/v1``."""
        if self._process is None:
            msg = (
                f"The embedded model {self.model!r} is not running: use `with LocalServer({self.model!r}) as server:`."
            )
            raise ConfigurationError(msg)
        return f"{self._address}/v1"

    @property
    def pid(self) -> int | None:
        """The process it runs in, None when stopped."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers. Does nothing when it runs."""
        if self._process is not None:
            return
        if self._port:
            _check_free(self._port)
        with tempfile.TemporaryFile() as errors:
            # its own session: Ctrl-C in a terminal must not take the model away before replies in flight are kept
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD), json.dumps(self._settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            try:
                self._wait_ready(self._process, errors)
            except BaseException:
                self.stop()
                raise

    def wait(self) -> None:
        """Block until the server ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Stop the server and wait until its process is gone. Does nothing when it is stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:  # closes the pipes
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _wait_ready(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Read the address from the child and ask there until it is well; a timer that kills it bounds both."""
        limit = threading.Timer(self._start_timeout_s, process.kill)
        limit.start()
        try:
            line = cast("IO[bytes]", process.stdout).readline()
            self._address = json.loads(line)["address"] if line else ""
            while self._address and process.poll() is None:
                if _is_healthy(self._address):
                    return
                time.sleep(0.02)
            late = not limit.is_alive()
        finally:
            limit.cancel()
            limit.join()
        code = process.wait(_STOP_S)
        errors.seek(0)
        last = errors.read().decode("utf-8", "replace").splitlines()[-_ERROR_LINES:]
        happened = f"was not ready within {self._start_timeout_s:g} s" if late else f"ended at its start, code {code}"
        said = "\n".join(["Its last lines:", *last]) if last else "It wrote nothing."
        msg = f"The server of the embedded model {self.model!r} {happened}. {said}"
        raise EndpointUnreachableError(msg)


def serve(
    model: str = "smollm2", *, port: int = 0, slots: int = 4, context_tokens: int = 2048, threads: int | None = None
) -> None:
    """Serve an embedded model in the foreground until Ctrl-C; prints its address and how to use it.

    Parameters
    ----------
    model, port, slots, context_tokens, threads
        As in :class:`LocalServer`.

    Raises
    ------
    ConfigurationError, EndpointUnreachableError
        As in :class:`LocalServer`; the second also when the server ends while it serves.
    """
    server = LocalServer(model, port=port, slots=slots, context_tokens=context_tokens, threads=threads)
    with contextlib.suppress(KeyboardInterrupt), server:
        click.echo(server.base_url)
        click.echo(f'  Endpoint("{model}", base_url="{server.base_url}", max_concurrent_requests={slots})')
        click.echo("  No key is needed. Stop with Ctrl-C.")
        server.wait()
        msg = (
            f"The server of the embedded model {model!r} ended. Start it again, with fewer `slots` if memory is short."
        )
        raise EndpointUnreachableError(msg)


def _check_free(port: int) -> None:
    """Refuse a port that is taken: llama.cpp's own message does not say so."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        msg = f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}): give another one, or 0 for a free one."
        raise ConfigurationError(msg) from None


def _is_healthy(address: str) -> bool:
    """Ask the server how it is; loopback, so past any proxy settings."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
