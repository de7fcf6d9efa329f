"""The progress of a run: what it says, and that it never holds up or hangs the work."""

from __future__ import annotations

import io
import threading

import pytest

from curator_llm.cluster.look import Look, ScopeLook
from curator_llm.frame.counts import Counts
from curator_llm.job.pipeline import PieceReport
from curator_llm.job.progress import ProgressReporter


def ok(rows: int, **levels: float) -> Look:
    return Look((ScopeLook("m", {"rows ok": rows}, levels, {}, 1.0),))


class Looks:
    """Looks as a cluster would give them, one after the other; the last one stays."""

    def __init__(self, *looks: Look) -> None:
        self.looks = list(looks)
        self.seen = threading.Event()
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def look(self) -> Look:
        if len(self.looks) == 1:
            self.seen.set()
            return self.looks[0]
        return self.looks.pop(0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def reported(stream: io.StringIO, looks: Looks, *reports: PieceReport) -> str:
    with ProgressReporter(looks, total=100, stream=stream, interval_s=0.001) as progress:
        assert looks.begun == 1, "what was done before is not this run's"
        for report in reports:
            progress.add(report)
        for _ in range(2):  # a look that begins from here on knows of the pieces, and is shown before the next one
            looks.seen.clear()
            assert looks.seen.wait(10)
    return stream.getvalue()


def test_a_terminal_has_one_line_that_is_rewritten_and_cleared():
    text = reported(Terminal(), Looks(ok(10, in_flight=4, limit=8)))
    lines = text.split("\x1b[J")
    assert set(lines[1:-1]) == {"\nok 10 · 10 of 100 rows (10 %) · 0.0 rows/s · 4 of 8 in flight\x1b[A\r"}
    assert lines[-1] == ""


def test_a_log_has_plain_lines():
    text = reported(io.StringIO(), Looks(ok(10), ok(20)))
    assert text.startswith("ok 10 · 10 of 100 rows (10 %) · 0.0 rows/s\n")
    assert "\x1b" not in text


@pytest.mark.parametrize("of_engines", [0, 30])
def test_rows_of_ended_pieces_count_also_when_workers_do_not_say_so(of_engines):
    counts = Counts()
    counts.statuses.update(ok=40, skipped=2)
    text = reported(io.StringIO(), Looks(ok(of_engines)), PieceReport(0, 42, 42, (counts,)))
    assert "ok 40 · skipped 2 · 42 of 100 rows (42 %)" in text


def test_what_engines_have_answered_beyond_the_ended_pieces_counts():
    counts = Counts()
    counts.statuses.update(ok=40)
    text = reported(io.StringIO(), Looks(ok(60)), PieceReport(0, 40, 40, (counts,)))
    assert "ok 60 · 60 of 100 rows (60 %)" in text
