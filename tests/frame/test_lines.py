"""The two lines every run prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from curator_llm.frame.lines import held_back_by, plan_line, summary_line, total_cost


def test_the_line_before_says_what_will_be_asked_and_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    line = plan_line("summary", rows=300_000, requests=299_512, reused=500, journal=tmp_path / ".cache" / "journal")
    assert line == "summary: 300,000 rows, 299,512 requests, 500 reused from ~/.cache/journal"


def test_a_journal_elsewhere_is_shown_in_full() -> None:
    assert plan_line("s", rows=1, requests=1, reused=0, journal=Path("/data/j")).endswith("0 reused from /data/j")


def test_without_a_journal_the_line_says_that_replies_are_not_kept() -> None:
    assert plan_line("s", rows=1, requests=1, reused=0, journal=None) == (
        "s: 1 row, 1 request, replies are not kept (journal=False)"
    )


def test_the_line_after_says_how_the_run_ended() -> None:
    statuses = {"failed": 131, "ok": 299_201, "truncated": 180}
    line = summary_line(
        "summary",
        statuses,
        seconds=21 * 60,
        failures={"timeout": 120, "server_error": 11},
        cost_usd=37.9,
        held_back_by="requests per minute",
    )
    assert line == (
        "summary: ok 299,201 · truncated 180 · failed 131 (timeout 120, server_error 11) · $37.90 · 21 min · "
        "238 rows/s · held back by requests per minute"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert summary_line("s", {"ok": 3}, seconds=0.0) == "s: ok 3 · 0.0 s"


def test_a_run_without_rows_says_so() -> None:
    assert summary_line("s", {}, seconds=1.0) == "s: no rows · 1.0 s"


def test_statuses_without_rows_are_not_listed() -> None:
    assert summary_line("s", {"ok": 1, "failed": 0}, seconds=1.0).startswith("s: ok 1 · 1.0 s")


@pytest.mark.parametrize(("seconds", "shown"), [(0.42, "0.4 s"), (42.4, "42 s"), (90, "1.5 min"), (7200, "120 min")])
def test_times_are_short(seconds: float, shown: str) -> None:
    assert f" · {shown}" in summary_line("s", {"ok": 10}, seconds=seconds)


@pytest.mark.parametrize(("costs", "total"), [([], None), ([None], None), ([0.5, None, 0.25], 0.75), ([0.0], 0.0)])
def test_the_total_is_that_of_the_costs_that_are_known(costs: list[float | None], total: float | None) -> None:
    assert total_cost(costs) == total


@pytest.mark.parametrize(
    ("most", "is_bounded", "end"),
    [
        (61.0, True, ", max $61.00"),
        (0.52, False, ", $0.52 for the input, replies without limit (no max_tokens)"),
        (None, True, " reused from j"),
    ],
)
def test_the_line_before_says_what_the_requests_cost_at_most(most: float | None, is_bounded: bool, end: str) -> None:
    line = plan_line("s", rows=9, requests=9, reused=0, journal=Path("j"), max_cost_usd=most, is_bounded=is_bounded)
    assert line.endswith(end)


def test_nothing_to_send_costs_nothing() -> None:
    assert "$" not in plan_line("s", rows=9, requests=0, reused=9, journal=Path("j"), max_cost_usd=0.0)


def test_rows_that_cost_nothing_are_counted() -> None:
    assert summary_line("s", {"ok": 3}, seconds=1.0, reused=2).startswith("s: ok 3 · 2 reused · 1.0 s")


@pytest.mark.parametrize(
    ("counts", "limit"),
    [
        ({"sent": 100, "held by permits": 90}, "max_concurrent_requests"),
        ({"sent": 100, "held by permits": 5, "held by tokens_per_minute": 60}, "max_tokens_per_minute"),
        ({"sent": 100, "held by throttling": 60}, "the server's throttling"),
        ({"sent": 100, "held by permits": 5}, None),
        ({}, None),
    ],
)
def test_what_held_a_run_back_is_what_most_starts_waited_for(counts: dict[str, float], limit: str | None) -> None:
    assert held_back_by(counts) == limit
