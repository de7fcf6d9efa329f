"""The fake server in a process of its own: for tests that fill their own process, or open thousands of sockets.

This module covers `FakeServerProcess`. The two processes speak over the child's standard input and output, so that a
key given to the server stands in no command line and the child ends when its parent does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from curator_llm.testing.ledger import Ledger

_ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.01


class FakeServerProcess:
    """A `FakeServer` in another process, with as many open files as the system allows.

    Parameters
    ----------
    **options : object
        The options of ``python -m curator_llm.testing --help`` with underscores: numbers, texts, lists of texts for
        options that may be repeated, True for switches. For example ``latency=0.02, long_tail=True, seed=1``,
        ``faults_named=True`` or ``fault=["reset", "http:500"], fault_rate=0.3``. Functions cannot cross to another
        process.

    Attributes
    ----------
    base_url : str
        The URL to give to a client, ``/v1`` included.

    Raises
    ------
    RuntimeError
        When the process does not start; the message holds what it wrote.

    Notes
    -----
    Starting takes about as long as ``import curator_llm`` in a new interpreter.

    Examples
    --------
    >>> with FakeServerProcess(latency=0.01) as server:
    ...     server.ledger.requests
    0
    """

    def __init__(self, **options: Any) -> None:
        self._api_key = options.pop("api_key", None)
        self._options = options
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._last = Ledger()
        self.base_url = ""

    def __repr__(self) -> str:
        return f"FakeServerProcess({self.base_url if self._process else 'not running'})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Start the process and wait until it listens.

        Returns
        -------
        FakeServerProcess
            Itself.

        Raises
        ------
        RuntimeError
            When the process ends instead.
        """
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-m", "curator_llm.testing", "--commands", *_arguments(self._options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="ascii",
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._process = process
        said = self._line()
        if not said.startswith("http"):
            rest = self._output().read()
            self.close()
            msg = f"the fake server did not start: {said}{rest}"
            raise RuntimeError(msg)
        self.base_url = said.strip()
        if self._api_key is not None:
            self.change(api_key=self._api_key)
        return self

    def close(self) -> None:
        """End the process. The counts of its ledger can still be read."""
        process = self._process
        if process is None:
            return
        if process.poll() is None and self.base_url:
            self._last = self.ledger
        self._process = None
        with process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def ledger(self) -> Ledger:
        """The ledger's counts; its `Ledger.seen` is empty. Costs a round trip between the processes."""
        return self._last if self._process is None else self.read_ledger(seen=False)

    def read_ledger(self, *, seen: bool = True) -> Ledger:
        """Give the ledger with every request the server remembers.

        Parameters
        ----------
        seen : bool
            Whether to fetch the requests; they cross as JSON, about 50 us each.

        Returns
        -------
        Ledger
            A snapshot.
        """
        return msgspec.convert(self._ask("ledger", seen=seen), Ledger, str_keys=True)

    def reset(self) -> None:
        """See `FakeServer.reset`."""
        self._ask("reset")

    def pause(self) -> None:
        """See `FakeServer.pause`."""
        self._ask("pause")

    def resume(self, count: int | None = None) -> None:
        """See `FakeServer.resume`."""
        self._ask("resume", count=count)

    def drop_connections(self) -> None:
        """See `FakeServer.drop_connections`."""
        self._ask("drop_connections")

    def change(self, **settings: Any) -> None:
        """See `FakeServer.change`; only what is not a function can cross."""
        self._ask("change", **settings)

    def wait_until(self, predicate: Callable[[Ledger], object], timeout_s: float = 10.0) -> Ledger:
        """See `FakeServer.wait_until`; the predicate sees the counts alone, a hundred times a second."""
        deadline = time.monotonic() + timeout_s
        while not predicate(ledger := self.ledger):
            if time.monotonic() > deadline:
                msg = f"not so within {timeout_s} s; the last ledger: {ledger}"
                raise TimeoutError(msg)
            time.sleep(_POLL_S)
        return ledger

    def _ask(self, command: str, **arguments: Any) -> Any:
        with self._turn:
            if self._process is None or self._process.stdin is None:
                msg = "the fake server's process does not run; call start() or use it in a with statement"
                raise RuntimeError(msg)
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._line()
        try:
            reply = json.loads(line)
        except ValueError:
            msg = f"the fake server's process ended: {line}"
            raise RuntimeError(msg) from None
        if "error" in reply:
            raise TypeError(reply["error"])
        return reply["result"]

    def _output(self) -> Any:
        return self._process.stdout if self._process else None

    def _line(self) -> str:
        line: str = self._output().readline()
        return line


def _arguments(options: dict[str, Any]) -> list[str]:
    """Turn options into those of the command line."""
    arguments = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [f"{flag}={one}" for one in (value if isinstance(value, list | tuple) else [value])]
    return arguments
