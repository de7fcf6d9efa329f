"""A try of a job on its first rows."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from curator_llm.job.check import check_job
from curator_llm.job.data.limit import FirstRows
from curator_llm.job.dry_run import dry_run


@pytest.fixture(params=["parquet", "jsonl"])
def given(kit, request, monkeypatch):
    """The job over pieces of 5 rows, or of a few lines."""
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 5)
    monkeypatch.setattr("curator_llm.job.data.pieces.MOST_BYTES", 100)
    pd.read_parquet("docs.parquet").to_json("docs.jsonl", orient="records", lines=True)
    return {"input": {request.param: f"docs.{request.param}"}}


@pytest.mark.parametrize("limit", [1, 5, 7, 12, 99])
def test_the_first_rows_are_answered_and_nothing_else_is_sent(kit, given, limit):
    assert kit.run(limit=limit, **given).exit_code == 0
    rows = min(limit, 12)
    assert kit.output()["id"].tolist() == list(range(rows))
    assert {seen.prompt for seen in kit.server.ledger.seen} == {f"Topic of text {n}" for n in range(rows)}
    report = json.loads((kit.directory / "run" / "report.json").read_text())
    assert (report["limit"], report["rows_in"]) == (limit, rows)
    assert kit.lines[0].startswith(f"topic: {rows} rows, ")
    assert json.loads((kit.directory / "run" / "_SUCCESS").read_text())["limit"] == limit


def test_the_output_of_a_try_is_replaced_by_the_next_run_which_reuses_its_replies(kit, given):
    kit.run(limit=7, **given)
    kit.run(**given)
    assert len(kit.output()) == kit.server.ledger.requests == 12
    kit.run(limit=3, **given)
    assert len(kit.output()) == 3


def test_pieces_of_a_try_are_those_of_the_whole_but_for_the_last(kit, given):
    source = check_job(kit.load(**given)).source
    whole = [piece.read() for piece in source.pieces()]
    tried = [piece.read() for piece in FirstRows(source, 8).pieces()]
    assert sum(map(len, tried)) == 8
    for before, after in zip(whole, tried[:-1], strict=False):
        pd.testing.assert_frame_equal(before, after)


def test_a_dry_run_counts_the_first_rows(kit, given):
    import dataclasses

    lines: list[str] = []
    dry_run(check_job(dataclasses.replace(kit.load(**given), limit=3)), lines.append)
    assert lines[0].startswith("topic: 3 rows, 3 requests")
