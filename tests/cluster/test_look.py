"""One look at progress: what it says, and what it does not invent."""

from __future__ import annotations

from pathlib import Path

import pytest

from curator_llm.cluster.look import Look, ScopeLook

WORKING = {"in_flight": 8, "limit": 8, "backlog": 40, "open rows": 50}
ROWS = "ok 9 · 9 of 59 rows known so far"
HELD = "17 s left for these · held back by max_concurrent_requests: 8 of 8 in flight; try 16"


def look_of(total: int | None = None, **scope) -> Look:
    return Look((ScopeLook("m", **{"counts": {}, "levels": {}, "recent": {}, "recent_s": 10.0, **scope}),), total)


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (look_of(), "no rows yet"),
        (look_of(levels={"open rows": 9}), "no answer yet · 0 of 9 rows known so far · 0.0 rows/s"),
        (
            look_of(
                counts={"rows ok": 1_200, "rows failed": 4, "cost_usd": 0.5, "done": 1_204},
                levels={"open rows": 796, "in_flight": 64, "limit": 64},
                recent={"rows answered": 600, "input_tokens": 4_000, "output_tokens": 1_000},
            ),
            (
                "ok 1,200 · failed 4 · 1,204 of 2,000 rows known so far · 60.0 rows/s · 500 tokens/s"
                " · 64 of 64 in flight · $0.50 · 13 s left for these"
            ),
        ),
        (
            look_of(3_000, counts={"rows ok": 1_200}, recent={"rows answered": 600}),
            "ok 1,200 · 1,200 of 3,000 rows (40 %) · 60.0 rows/s · 30 s left",
        ),
        (look_of(100, counts={"rows ok": 50}), "ok 50 · 50 of 100 rows (50 %) · 0.0 rows/s"),
        (look_of(100, counts={"rows ok": 50}, recent_s=0.0), "ok 50 · 50 of 100 rows (50 %)"),
        (look_of(100, counts={"rows ok": 130}), "ok 130 · 100 of 100 rows (100 %), 30 of them again · 0.0 rows/s"),
        (
            look_of(720_005, counts={"rows ok": 5}, recent={"rows answered": 1_000}),
            "ok 5 · 5 of 720,005 rows (0 %) · 100.0 rows/s · 2.0 h left",
        ),
    ],
)
def test_the_line_says_what_is_known_and_nothing_else(look, line):
    assert str(look) == line


def test_the_line_of_the_page_is_what_is_printed():
    page = Path(__file__).parents[2].joinpath("docs", "progress.md").read_text(encoding="utf-8")
    levels = {"in_flight": 64, "limit": 64, "backlog": 500, "open rows": 796}
    look = look_of(
        3_000,
        counts={"rows ok": 1_200, "rows failed": 4, "cost_usd": 0.5},
        levels=levels,
        recent={"rows answered": 600, "input_tokens": 4_000, "output_tokens": 1_000},
    )
    assert f"\n{look}\n" in page


@pytest.mark.parametrize(
    ("held_by", "more", "said"),
    [
        ("permits", {}, "max_concurrent_requests: 8 of 8 in flight; try 16"),
        ("nothing that was counted", {}, "max_concurrent_requests: 8 of 8 in flight; try 16"),
        (
            "requests_per_minute",
            {"limits": {"permits": 8, "requests_per_minute": 600}},
            "max_requests_per_minute: 600; try 1,200 if the quota allows",
        ),
        (
            "tokens_per_minute",
            {"limits": {"permits": 8, "tokens_per_minute": 9_000}},
            "max_tokens_per_minute: 9,000; try 18,000 if the quota allows",
        ),
        (
            "throttling",
            {"window": 3},
            "the server's throttling: try max_concurrent_requests=3, or ask for a higher quota",
        ),
        ("throttling", {}, "the server's throttling"),
        ("outage", {}, "an outage of the server"),
    ],
)
def test_what_holds_a_run_back_is_said_with_what_to_try(held_by, more, said):
    recent = {"sent": 100, f"held by {held_by}": 90}
    assert look_of(levels=WORKING, recent=recent, **more).held_back_by == said


@pytest.mark.parametrize(
    ("levels", "recent"),
    [
        ({**WORKING, "backlog": 0}, {"sent": 100, "held by permits": 90}),
        ({**WORKING, "in_flight": 5}, {"sent": 100}),
        ({}, {"sent": 100, "held by outage": 90}),
    ],
)
def test_nothing_is_said_to_hold_back_a_run_that_little_or_nothing_waits_for(levels, recent):
    assert look_of(levels=levels, recent=recent).held_back_by is None


def test_of_several_scopes_the_one_with_the_most_rows_waiting_holds_back_and_costs_are_a_part():
    waiting = {"sent": 100, "held by permits": 90}
    few = ScopeLook("few", {"done": 3, "rows ok": 3}, {**WORKING, "backlog": 1}, waiting, 10.0)
    many = ScopeLook("many", {"cost_usd": 2.0, "rows ok": 2}, WORKING, waiting, 10.0)
    look = Look((few, many))
    assert look.held_back_by == "max_concurrent_requests: 8 of 8 in flight; try 16 (many)"
    assert "ok 5 · 5 of 105 rows known so far" in str(look)
    assert "16 of 16 in flight · at least $2.00" in str(look)
    assert "few" in look._repr_html_()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (200, f"{ROWS} · 3.0 rows/s · 5 tokens/s · 8 of 8 in flight · {HELD}"),
        (160, f"{ROWS} · 3.0 rows/s · 8 of 8 in flight · {HELD}"),
        (140, f"{ROWS} · 3.0 rows/s · {HELD}"),
        (130, f"{ROWS} · {HELD}"),
        (20, ROWS[:20]),
    ],
)
def test_a_narrow_terminal_does_without_what_matters_least(width, line):
    recent = {"rows answered": 30, "input_tokens": 50}
    assert look_of(counts={"rows ok": 9}, levels=WORKING, recent=recent).line(width) == line
