"""Where progress is shown: terminals, logs; and that it breaks nothing."""

from __future__ import annotations

import io
import sys
import threading

from curator_llm.cluster.live import Lines, Live, RewrittenLine, RichTable, display_of
from curator_llm.cluster.look import Look, ScopeLook

WORKING = {"in_flight": 8, "limit": 8, "backlog": 40, "open rows": 50}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def look_of(total: int | None = None, **scope) -> Look:
    return Look((ScopeLook("m", **{"counts": {}, "levels": {}, "recent": {}, "recent_s": 10.0, **scope}),), total)


def shown_live(display, *looks: Look) -> None:
    """Show each look once, and the last one at the end."""
    display.interval_s = 0.001
    left, all_shown = list(looks), threading.Event()

    def look() -> Look:
        if len(left) == 1:
            all_shown.set()
            return left[0]
        return left.pop(0)

    live = Live(look, display).start()
    assert all_shown.wait(10)
    live.stop()


def test_a_log_has_plain_lines():
    stream = io.StringIO()
    assert isinstance(display_of(stream), Lines)
    shown_live(Lines(stream), look_of(counts={"rows ok": 1}), look_of(counts={"rows ok": 2}))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "ok 1 · 1 of 1 rows known so far · 0.0 rows/s"
    assert lines[-1] == "ok 2 · 2 of 2 rows known so far · 0.0 rows/s"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_has_a_table_that_is_redrawn_and_stays():
    terminal = Terminal()
    display = display_of(terminal)
    assert isinstance(display, RichTable)
    shown_live(display, look_of(40, counts={"rows ok": 10}), look_of(40, counts={"rows ok": 20}))
    assert "10 of 40 rows (25 %)" in terminal.getvalue()
    assert "20 of 40 rows (50 %)" in terminal.getvalue().rpartition("\x1b[1A")[2]


def test_a_terminal_without_rich_has_one_line_below_the_cursor_that_is_rewritten_and_fits(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("COLUMNS", "24")
    terminal = Terminal()
    display = display_of(terminal)
    assert isinstance(display, RewrittenLine)
    shown_live(display, look_of(40, counts={"rows ok": 10}), look_of(40, counts={"rows ok": 20}))
    assert terminal.getvalue().startswith("\x1b[J\nok 10 · 10 of 40 rows (\x1b[A\r\x1b[J\n")
    assert terminal.getvalue().endswith("\x1b[Jok 20 · 20 of 40 rows (50 %) · 0.0 rows/s\n")


def test_a_display_that_breaks_does_not_break_the_work():
    class Broken(Lines):
        def show(self, look: Look) -> None:
            raise OSError("the terminal is closed")

        end = show

    shown_live(Broken(io.StringIO()), look_of(), look_of())


def test_a_name_from_elsewhere_steers_neither_a_page_nor_a_terminal():
    held = {"counts": {"rows ok": 1}, "levels": WORKING, "recent": {"held by outage": 9}}
    look = Look.of({"recent_s": 1.0, "scopes": {"\x1b[2J<b>": held, "other": held}})
    assert "\x1b[2J<b>" in str(look)
    assert "<b>" not in look._repr_html_()
    stream, terminal = io.StringIO(), Terminal()
    Lines(stream).show(look)
    table = RichTable(terminal)
    table.end(look)
    assert "\x1b[2J" not in stream.getvalue() + terminal.getvalue()
