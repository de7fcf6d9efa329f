"""A display that follows a run: in place on a terminal and in a notebook, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from typing import Any, Protocol, Self, TextIO

from curator_llm.cluster.look import Look
from curator_llm.frame.bar import in_notebook
from curator_llm.terminal import word

IN_PLACE_INTERVAL_S = 0.5
PLAIN_INTERVAL_S = 30.0
_BAR_WIDTH = 60


class Display(Protocol):
    """Where looks are shown."""

    interval_s: float

    def show(self, look: Look) -> None:
        """Show a look instead of the one before."""

    def end(self, look: Look) -> None:
        """Show the last one."""


class Live:
    """Looks now and then, from a thread of its own.

    Parameters
    ----------
    look : callable
    display : Display
    """

    def __init__(self, look: Callable[[], Look], display: Display) -> None:
        self._look = look
        self._display = display
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="curator-llm progress", daemon=True)

    def start(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def stop(self, *, looks: bool = True) -> None:
        """End, with a last look or without: it may take as long as a cluster that does not answer."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # as below
            self._display.end(self._look() if looks else Look(()))

    def _run(self) -> None:
        while not self._stop.wait(self._display.interval_s):
            with contextlib.suppress(Exception):  # a terminal that is closed, a cluster that is gone: the work goes on
                self._display.show(self._look())


class Lines:
    """A plain line now and then, for logs."""

    interval_s = PLAIN_INTERVAL_S

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, look: Look) -> None:
        """Write it."""
        self._stream.write(f"{word(look)}\n")
        self._stream.flush()

    end = show


class RewrittenLine:
    """One line that is rewritten, for terminals without rich.

    It stands below the cursor, so that lines that others print stand whole above it.

    Parameters
    ----------
    stream : TextIO
    keeps : bool, default True
        Whether the last line stays.
    """

    interval_s = IN_PLACE_INTERVAL_S

    def __init__(self, stream: TextIO, *, keeps: bool = True) -> None:
        self._stream = stream
        self._keeps = keeps

    def show(self, look: Look) -> None:
        """Write it over the one before; a line that wraps could not be rewritten."""
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\n{word(look.line(width))[:width]}\x1b[A\r")

    def end(self, look: Look) -> None:
        """Leave the last line, whole, or none."""
        self._write(f"{word(look)}\n" if self._keeps else "")

    def _write(self, text: str) -> None:
        self._stream.write(f"\x1b[J{text}")
        self._stream.flush()


class RichTable:
    """A table with a bar, for terminals."""

    interval_s = IN_PLACE_INTERVAL_S

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._live = RichLive(console=Console(file=stream), auto_refresh=False)
        self._live.start()

    def show(self, look: Look) -> None:
        """Draw it."""
        self._live.update(_rich(look), refresh=True)

    def end(self, look: Look) -> None:
        """Draw the last one, and leave it there."""
        self.show(look)
        self._live.stop()


class NotebookTable:
    """A table below the cell, replaced in its place."""

    interval_s = IN_PLACE_INTERVAL_S

    def __init__(self) -> None:
        from IPython.display import display

        self._handle: Any = display(Look(()), display_id=True)  # type: ignore[no-untyped-call]  # IPython's

    def show(self, look: Look) -> None:
        """Replace the table."""
        self._handle.update(look)

    end = show


def display_of(stream: TextIO) -> Display:
    """Return what shows looks best here."""
    if in_notebook():
        return NotebookTable()
    if not stream.isatty():
        return Lines(stream)
    try:
        return RichTable(stream)
    except ImportError:
        return RewrittenLine(stream)


def _rich(look: Look) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if look.total:
        done = min(sum(look.statuses.values()), look.total)
        table.add_row("", ProgressBar(total=look.total, completed=done, width=_BAR_WIDTH))
    for name, fact in look.facts:
        table.add_row(name, Text(word(fact)))
    if len(look.scopes) > 1:
        for scope in look.scopes:
            table.add_row("", Text(f"{word(scope.name)}: {word(Look((scope,)))}", style="dim"))
    return table
