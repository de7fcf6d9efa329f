"""Progress of a cluster and of this process: what is counted, and how it is told."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask.dataframe as dd
import nbformat
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from nbclient import NotebookClient

import curator_llm
from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.cluster_counts import ClusterCounts
from curator_llm.cluster.coordinator import STATUS
from curator_llm.cluster.live import Lines, Live, RewrittenLine, RichTable, display_of
from curator_llm.cluster.look import Look, ScopeLook
from curator_llm.cluster.progress import Progress
from curator_llm.errors import CuratorLLMError
from curator_llm.testing import FakeServer

WORKING = {"in_flight": 8, "limit": 8, "backlog": 40, "open rows": 50}
ROWS = "ok 9 · 9 of 59 rows known so far"
HELD = "17 s left for these · held back by max_concurrent_requests: 8 of 8 in flight; try 16"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def look_of(total: int | None = None, **scope) -> Look:
    return Look((ScopeLook("m", **{"counts": {}, "levels": {}, "recent": {}, "recent_s": 10.0, **scope}),), total)


def texts(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"row {n}" for n in range(count)]})


def stage(server: FakeServer, **arguments) -> QueryModel:
    return QueryModel(Endpoint("m", base_url=server.base_url, **arguments), prompt="{text}", output="a", journal=False)


def until(holds: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


# --- what is counted --------------------------------------------------------------------------------------------------
def test_totals_of_engines_that_are_gone_stay_and_what_they_had_in_flight_does_not():
    counts = ClusterCounts()
    counts.take("one", 1, {"s": {"done": 5, "in_flight": 2}}, 0.0)
    counts.take("two", 1, {"s": {"done": 7, "in_flight": 3}}, 0.0)
    counts.gone("one")
    found = counts.status(1.0)
    assert found["engines"] == 1
    assert found["scopes"]["s"]["counts"]["done"] == 12
    assert found["scopes"]["s"]["levels"] == {"in_flight": 3}


def test_an_engine_that_is_silent_for_long_has_nothing_in_flight_until_it_reports_again():
    counts = ClusterCounts()
    counts.take("one", 1, {"s": {"done": 5, "in_flight": 2}}, 0.0)
    assert counts.status(60.0)["scopes"]["s"]["levels"] == {}
    assert counts.status(60.0, interval_s=10.0)["scopes"]["s"]["levels"] == {"in_flight": 2}, "it reports seldom"
    counts.take("one", 2, {"s": {"done": 6, "in_flight": 1}}, 61.0)
    assert counts.status(61.0)["scopes"]["s"]["levels"] == {"in_flight": 1}
    assert counts.status(61.0)["scopes"]["s"]["counts"]["done"] == 6


@pytest.mark.parametrize("order", [[1, 2, 3], [1, 1, 2, 2, 3, 3], [3, 1, 2], [1, 3, 2, 3]])
def test_late_lost_and_repeated_reports_do_not_skew(order):
    counts = ClusterCounts()
    for seq in order:
        counts.take("one", seq, {"s": {"done": 10 * seq, "in_flight": seq}}, 0.0)
    found = counts.status(0.0)["scopes"]["s"]
    assert found["counts"]["done"] == 30
    assert found["levels"] == {"in_flight": 3}


def test_a_thousand_engines_are_remembered_and_the_counts_of_all():
    counts = ClusterCounts()
    for number in range(5_000):
        counts.take(str(number), 1, {"s": {"done": 2}}, float(number))
        counts.gone(str(number))
    assert len(counts.engines) == 1_000
    assert counts.status(5_000.0)["scopes"]["s"]["counts"]["done"] == 10_000


def test_a_speed_is_that_of_the_last_half_minute_and_of_work_since_the_first_report():
    counts = ClusterCounts()
    for second in range(100):
        counts.take("one", second, {"s": {"done": 1_000 + 3 * second}}, float(second))
    counts.take("two", 1, {"s": {"done": 5_000}}, 99.0)
    found = counts.status(99.0)
    assert (found["recent_s"], found["scopes"]["s"]["recent"]["done"]) == (30.0, 90)
    assert counts.status(200.0)["scopes"]["s"]["recent"] == {}


def test_a_partition_that_is_taken_elsewhere_lets_no_count_fall():
    counts = ClusterCounts()
    counts.take("one", 1, {"s": {"open rows": 9, "open rows ok": 4}}, 0.0)
    counts.take("one", 2, {"s": {}}, 1.0)
    assert counts.status(1.0)["scopes"]["s"]["counts"] == {"rows answered": 4}
    assert counts.status(1.0)["scopes"]["s"]["levels"] == {}


def test_rows_are_counted_as_they_are_answered_and_by_how_they_end(server):
    progress = Progress()
    progress.begin()
    server.pause()
    frame = pd.DataFrame({"text": ["a", "b", "c", "d", None]})
    thread = threading.Thread(target=stage(server, price_usd=(1e6, 0)), args=[frame])
    thread.start()
    server.wait_until(lambda ledger: ledger.in_flight == 1)  # the first one goes alone
    server.resume(1)
    server.wait_until(lambda ledger: ledger.in_flight == 3)
    server.resume(2)
    until(lambda: progress.look().statuses == {"ok": 3, "skipped": 1})
    assert progress.look().all.rows_known == 5
    assert progress.look().all.rows_open == 1
    server.resume()
    thread.join()
    look = progress.look()
    assert look.statuses == {"ok": 4, "skipped": 1}
    assert look.all.rows_open == 0
    assert look.all.cost_usd == look.all.counts["input_tokens"] > 0


def test_rows_of_a_frame_that_is_broken_off_are_not_counted(server):
    progress = Progress()
    progress.begin()
    with FakeServer(api_key="another") as refusing, pytest.raises(CuratorLLMError, match="401"):
        stage(refusing)(texts(5))
    assert progress.look().all.rows_known == 0
    stage(server)(texts(2))
    assert progress.look().statuses == {"ok": 2}


def test_a_cluster_is_asked_by_one_call_to_its_scheduler(client, server, monkeypatch):
    monkeypatch.setattr(Client, "run", lambda *_, **__: pytest.fail("workers are not asked"))
    progress = Progress(client)
    progress.begin()
    out = stage(server)(dd.from_pandas(texts(40), npartitions=4)).compute()
    assert len(out) == 40
    until(lambda: progress.look().statuses == {"ok": 40})
    look = progress.look()
    assert (look.workers, look.all.rows_open, look.all.in_flight) == (2, 0, 0)
    assert [scope.name for scope in look.scopes] == [f"m at {server.base_url.removesuffix('/v1')}"]
    progress.begin()
    assert progress.look().statuses == {}, "what was before does not count"
    (scope,) = client.sync(getattr(client.scheduler, STATUS))["scopes"].values()
    assert scope["counts"]["sent"] == 40


def test_what_a_retired_worker_did_stays_counted_and_it_reports_no_more(client, server):
    progress = Progress(client)
    progress.begin()
    stage(server)(dd.from_pandas(texts(40), npartitions=4)).compute()
    client.retire_workers(list(client.scheduler_info()["workers"])[:1])
    # it says what it did at last as it leaves
    until(lambda: (progress.look().workers, progress.look().statuses) == (1, {"ok": 40}))


def test_a_display_names_the_reference_to_a_key_and_never_the_key(server, monkeypatch):
    monkeypatch.setenv("TEAM_KEY", "sk-canary")
    progress = Progress()
    progress.begin()
    with FakeServer(api_key="sk-canary") as server:
        stage(server, api_key="env:TEAM_KEY")(texts(2))
        look = progress.look()
    assert look.scopes[0].name == f"m at {server.base_url.removesuffix('/v1')} (key env:TEAM_KEY)"
    shown = f"{look} {look!r} {look._repr_html_()} {vars(look)} {progress._here.status()}"
    assert "sk-canary" not in shown


def test_where_the_scheduler_takes_no_plugin_the_workers_are_asked(client, server):
    def refuse(**_: object) -> None:
        raise RuntimeError("no plugins here")

    client.cluster.scheduler.handlers["register_scheduler_plugin"] = refuse
    progress = Progress(client)
    progress.begin()
    stage(server)(dd.from_pandas(texts(10), npartitions=2)).compute()
    assert progress.look().statuses == {"ok": 10}
    assert progress.look().workers == 2


def test_a_cluster_that_does_not_answer_gives_what_is_known_and_hangs_nothing(client, server):
    progress = Progress(client)
    progress.begin()
    stage(server)(dd.from_pandas(texts(10), npartitions=2)).compute()
    until(lambda: progress.look().statuses == {"ok": 10})
    progress._cluster[1]._timeout_s = 0.0
    look = progress.look()
    assert look.statuses == {"ok": 10}
    assert (look.workers, look.all.limit) == (0, 256)
    client.close()
    assert progress.look().statuses == {"ok": 10}


def test_waiting_and_tokens_are_among_the_metrics_of_dask(client, server):
    stage(server)(dd.from_pandas(texts(10), npartitions=2)).compute()

    def metrics(dask_scheduler):
        found = {}
        for name, value in dask_scheduler.cumulative_worker_metrics.items():
            if isinstance(name, tuple):
                found[name[-2:]] = found.get(name[-2:], 0) + value
        return found

    until(lambda: ("llm", "tokens") in client.run_on_scheduler(metrics))
    until(
        lambda: (
            client.run_on_scheduler(metrics)["llm", "tokens"]
            == server.ledger.input_tokens + server.ledger.output_tokens
        )
    )
    assert client.run_on_scheduler(metrics)["llm-wait", "seconds"] > 0


# --- how it is told ---------------------------------------------------------------------------------------------------
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


# --- where it is shown ------------------------------------------------------------------------------------------------
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


def test_a_display_that_breaks_does_not_break_the_work():
    class Broken(Lines):
        def show(self, look: Look) -> None:
            raise OSError("the terminal is closed")

        end = show

    shown_live(Broken(io.StringIO()), look_of(), look_of())


def test_a_context_shows_what_was_done_in_it(server, capfd):
    stage(server)(texts(3))
    with curator_llm.progress(total=5):
        stage(server)(texts(5))
    assert "ok 5 · 5 of 5 rows (100 %)" in capfd.readouterr().err
    assert curator_llm.progress().look().statuses["ok"] >= 8


@pytest.mark.filterwarnings("default")  # the client of the kernel warns of its own parts
def test_a_notebook_has_one_table_that_is_replaced_in_its_place(server):
    code = f"""
import curator_llm, pandas as pd
stage = curator_llm.QueryModel(curator_llm.Endpoint("m", base_url={server.base_url!r}), prompt="{{text}}", output="a")
with curator_llm.progress(total=2):
    stage(pd.DataFrame({{"text": ["a", "b"]}}))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60).execute()
    (table,) = [output for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert "2 of 2 rows (100 %)" in table.data["text/html"]
    assert "2 of 2 rows (100 %)" in table.data["text/plain"]
