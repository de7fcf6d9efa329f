"""A dry run says what would be asked, and asks nothing."""

from __future__ import annotations

import json

import pandas as pd

from curator_llm.frame.rendering import request_text
from curator_llm.job.check import check_job
from curator_llm.job.dry_run import dry_run


def dry(kit, **changes) -> list[str]:
    lines: list[str] = []
    dry_run(check_job(kit.load(**changes)), lines.append)
    return lines


def test_a_dry_run_counts_shows_the_first_requests_and_sends_nothing(kit):
    frame = pd.DataFrame({"id": range(6), "text": ["a", "b", "b", "c", "d", None]})
    frame.to_parquet("docs.parquet")
    endpoints = {"fake": {"model": "m", "api_key": "env:NO_SUCH_KEY", "base_url": kit.server.base_url}}
    lines = dry(kit, endpoints=endpoints)
    assert lines[0].startswith("topic: 6 rows, 4 requests, 0 reused from ")
    assert "  1 rows would be skipped without a request" in lines
    shown = "\n".join(lines)
    assert "user: Topic of a" in shown
    assert shown.count("user: ") == 3
    assert kit.server.ledger.requests == 0
    assert not (kit.directory / "run").exists()


def test_a_dry_run_says_how_much_the_journal_has(kit):
    kit.run(stages=[{"filter": {"column": "id", "below": 5}}, *kit.given["stages"]])
    before = kit.server.ledger.requests
    assert dry(kit)[0].startswith("topic: 12 rows, 7 requests, 5 reused from ")
    assert kit.server.ledger.requests == before


def test_filters_on_input_columns_count_and_stages_behind_replies_are_said_to_wait(kit):
    stages = [
        {"filter": {"column": "id", "below": 5}},
        *kit.given["stages"],
        {"query_model": {"endpoint": "fake", "prompt": "Again {topic}", "output": "again"}},
    ]
    lines = dry(kit, stages=stages)
    assert lines[0].startswith("topic: 5 rows, 5 requests")
    assert lines[-1] == "again: up to 12 rows, not counted: it depends on the replies of 'topic'"


def test_equal_requests_of_different_pieces_count_once(kit, monkeypatch):
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 2)
    pd.DataFrame({"text": ["a", "b"] * 6}).to_parquet("docs.parquet")
    assert dry(kit)[0].startswith("topic: 12 rows, 2 requests")


def test_long_texts_are_cut_with_their_length():
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 5000}], "temperature": 0}).encode()
    assert "… (5,000 characters)" in request_text(body)
    assert len(request_text(body)) < 1000
    assert "(temperature 0)" in request_text(body)
