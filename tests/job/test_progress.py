"""The progress line: what it says, and that it never holds up or hangs the work."""

from __future__ import annotations

import io
import threading

import pytest
from distributed import Client, LocalCluster

from curator_llm.cluster.progress import Progress
from curator_llm.frame.counts import Counts
from curator_llm.job.pipeline import PieceReport
from curator_llm.job.progress import ProgressReporter, progress_line


class Looks:
    """Counts as a cluster would give them, one after the other; the last one stays."""

    def __init__(self, *counts: dict[str, float]) -> None:
        self.counts = list(counts)
        self.seen = threading.Event()

    def look(self) -> dict[str, float]:
        if len(self.counts) == 1:
            self.seen.set()
            return self.counts[0]
        return self.counts.pop(0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def reported(stream: io.StringIO, looks: Looks, *reports: PieceReport) -> str:
    ticks = iter(range(1_000_000))
    with ProgressReporter(looks, total=100, stream=stream, interval_s=0.001, clock=lambda: next(ticks)) as progress:
        for report in reports:
            progress.add(report)
        looks.seen.clear()  # a look that begins from here on knows of the pieces
        assert looks.seen.wait(10)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"counts": {}, "total": None, "rate": 0.0}, "no answer yet · 0.0 rows/s"),
        ({"counts": {"ok": 50}, "total": 100, "rate": 0.0}, "ok 50 · of 100 (50 %) · 0.0 rows/s"),
        ({"counts": {"ok": 5}, "total": 720_005, "rate": 100.0}, "ok 5 · of 720,005 (0 %) · 100.0 rows/s · 2.0 h left"),
        (
            {"counts": {"ok": 5, "sent": 9}, "total": None, "rate": 1.0, "limit": 8},
            "ok 5 · 1.0 rows/s · 0 of 8 in flight",
        ),
    ],
)
def test_the_line_says_what_is_known_and_nothing_else(arguments, line):
    assert progress_line(**arguments) == line


def test_a_terminal_has_one_line_that_is_rewritten_and_cleared():
    text = reported(Terminal(), Looks({}, {"ok": 10, "in_flight": 4, "limit": 8}))
    assert "\r\x1b[Kok 10 · of 100 (10 %)" in text
    assert "4 of 8 in flight" in text
    assert text.endswith("\r\x1b[K")
    assert "\n" not in text


def test_a_log_has_plain_lines():
    text = reported(io.StringIO(), Looks({}, {"ok": 10}, {"ok": 20}))
    assert text.startswith("ok 10 · of 100 (10 %) · ")
    assert "\x1b" not in text


def test_rows_of_ended_pieces_count_also_when_their_replies_were_reused():
    counts = Counts()
    counts.statuses.update(ok=40, skipped=2)
    assert "ok 40 · skipped 2 · of 100 (42 %)" in reported(
        io.StringIO(), Looks({}, {}), PieceReport(0, 42, 42, (counts,))
    )


def test_a_cluster_is_asked_once_per_process_and_what_was_before_does_not_count(monkeypatch):
    counts = {"ok": 5.0, "in_flight": 2.0}
    monkeypatch.setattr("curator_llm.runtime.snapshot", lambda: dict(counts))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        progress = Progress(client)
        assert progress.look() == {"ok": 0, "in_flight": 2}
        counts["ok"] = 12.0
        assert progress.look() == {"ok": 7, "in_flight": 2}


def test_a_cluster_that_does_not_answer_gives_what_is_known_instead_of_hanging(monkeypatch):
    monkeypatch.setattr("curator_llm.runtime.snapshot", lambda: {"ok": 1.0, "in_flight": 2.0})
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        progress = Progress(client)
        progress.look()
        progress.timeout_s = 0.0
        assert progress.look() == {"ok": 0}
