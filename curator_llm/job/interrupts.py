"""Ctrl-C, SIGTERM, SIGHUP and requests from elsewhere, as one interruption that comes at most once and where it may."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

_WORDS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Stopped by SIGTERM"}
if hasattr(signal, "SIGHUP"):  # the terminal is gone; not heard under nohup
    _WORDS[signal.SIGHUP] = "Stopped by SIGHUP"
#: What a run takes for a request to stop.
SIGNALS = frozenset(_WORDS)
_AGAIN = b"Already stopping: replies in flight are awaited, so that they are not lost.\n"


class Interrupts:
    """Turns the first of all requests to stop into a `KeyboardInterrupt`, while the context is open.

    Later ones, and all outside of `armed`, end nothing: what is being put in order then must not be torn.

    Attributes
    ----------
    why : str or None
        How the first one came.

    Examples
    --------
    >>> with Interrupts() as interrupts:
    ...     try:
    ...         with interrupts.armed():
    ...             interrupts.request("Stopped by a test")
    ...             interrupts.check()
    ...     except KeyboardInterrupt:
    ...         print(interrupts.why)
    Stopped by a test
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self._is_armed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            for number in _WORDS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # a job in the background of a shell is deaf to ^C
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Let a request end the block.

        Raises
        ------
        KeyboardInterrupt
            Within the block, at most once.
        """
        self._is_armed = True
        try:
            self.check()
            yield
        finally:
            self._is_armed = False

    @contextlib.contextmanager
    def held_off(self) -> Iterator[None]:
        """Let no request end this part of an armed block, but its end."""
        self._is_armed = False
        yield
        self._is_armed = True
        self.check()

    def disarm(self) -> None:
        """Let no request end the rest of an armed block."""
        self._is_armed = False

    def request(self, why: str) -> None:
        """Ask for an interruption; from any thread."""
        self.why = self.why or why
        if self._is_armed and signal.SIGTERM in self._before and hasattr(signal, "pthread_kill"):
            # wakes the main thread where it waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def check(self) -> None:
        """Interrupt here if that was asked for.

        Raises
        ------
        KeyboardInterrupt
        """
        if self.why is not None and self._is_armed:
            self._is_armed = False
            raise KeyboardInterrupt

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.why is not None and not self._is_armed:
            with contextlib.suppress(OSError):
                os.write(2, _AGAIN)  # not print: the handler may have come in the middle of one
        self.why = self.why or _WORDS[signal.Signals(number)]
        self.check()
