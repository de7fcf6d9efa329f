"""The report in words."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.job.lease import take_lease
from curator_llm.job.report_text import read_report, report_text

REPORT = {
    "version": 1,
    "status": "done",
    "exit_code": 0,
    "message": None,
    "run": "topics-1",
    "job_file": "my job.yaml",
    "started_at": "2026-11-25T02:40:54+00:00",
    "ended_at": "2026-11-25T02:50:54+00:00",
    "seconds": 601.0,
    "answering_seconds": 600.0,
    "rows_in": 300,
    "rows_out": 300,
    "stages": [
        {
            "output": "topic",
            "model": "m",
            "endpoint": "http://vllm:8000",
            "rows": 300,
            "statuses": {"ok": 290, "truncated": 8, "failed": 2},
            "failures": {"timeout": 2},
            "requests": 1200,
            "attempts": 1210,
            "input_tokens": 12000,
            "output_tokens": 800,
            "cost_usd": 0.5,
        }
    ],
    "output": {"parquet": "/data/tagged"},
    "journal": "/runs/topics/journal",
    "versions": {},
}


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "manifest.json").write_text('{"job": "version: 1"}')
    return tmp_path


def text(run_dir, **changes) -> list[str]:
    (run_dir / "report.json").write_text(json.dumps({**REPORT, **changes}))
    return report_text(run_dir).splitlines()


def test_a_report_of_the_first_release_is_said_in_words_with_what_to_do_next(run_dir):
    retry = f"curator-llm retry {run_dir} --status truncated --set generation.max_tokens=..."
    assert text(run_dir) == [
        "my job.yaml: Done. 2026-11-25T02:40:54+00:00 to 2026-11-25T02:50:54+00:00, 300 rows in, 300 out",
        "topic: ok 290 · truncated 8 · failed 2 (timeout 2) · $0.50 · 10 min · 0.5 rows/s",
        "  m at http://vllm:8000: 1,200 requests, 1,210 attempts, 12,000 input tokens, 800 output tokens",
        "output: /data/tagged",
        "replies: /runs/topics/journal",
        "Ask the failed rows again with: curator-llm run 'my job.yaml'",
        f"Ask the truncated rows anew with: {retry}",
    ]


@pytest.mark.parametrize(
    ("status", "way"),
    [
        ("interrupted", "Go on with: curator-llm run 'my job.yaml' --set cluster.n_workers=3 --limit 300"),
        ("stopped", "Mend what the message says, then go on with: curator-llm run"),
        ("rows_failed", "Ask the failed rows again with: curator-llm run"),
        ("crashed", "Go on with: curator-llm run"),
        ("usage", "Mend what the message says, then go on with: curator-llm run"),
    ],
)
def test_every_ending_says_how_to_go_on(run_dir, status, way):
    lines = text(run_dir, status=status, message="Why.", output=None, limit=300, overrides=["cluster.n_workers=3"])
    assert lines[-1].startswith(way)
    assert lines[1] == "Why."
    assert lines[0].endswith(", limited to the first 300")
    assert not any(line.startswith("output: ") for line in lines)


def test_retries_and_what_held_the_run_back_are_said(run_dir):
    retries = [{"stage": "topic", "statuses": ["truncated"], "set": ["generation.max_tokens=9"], "draw": 1}]
    lines = text(run_dir, retries=retries, held_back_by="max_requests_per_minute")
    assert "topic: truncated asked anew with generation.max_tokens=9" in lines
    assert lines[1].endswith("held back by max_requests_per_minute")
    assert " and its retries: " in lines[2]  # whose endpoint may be another one


def test_equal_retries_are_said_once(run_dir):
    retry = {"stage": "topic", "statuses": ["ok"], "set": [], "draw": 1, "done": True}
    lines = text(run_dir, retries=[retry, {**retry, "draw": 2}])
    assert lines.count("topic: ok asked anew") == 1


def test_who_works_there_is_said_first(run_dir):
    with take_lease(run_dir) as lease:
        assert text(run_dir)[:2] == [f"At work here: {lease._me}.", "How the execution before it ended:"]
        (run_dir / "report.json").unlink()
        assert report_text(run_dir).splitlines()[1] == "No execution has come to its end yet."


def test_an_execution_that_was_killed_is_said_with_the_way_to_go_on(run_dir):
    manifest = json.loads((run_dir / "manifest.json").read_text())
    later = {**manifest, "lease": 2, "job_file": "other job.yaml", "overrides": ["a.b=c d"], "limit": 5}
    (run_dir / "manifest.json").write_text(json.dumps(later))
    lines = text(run_dir, lease=1)
    assert lines[0] == (
        "A later execution was killed: what it was answered is kept. Go on with: curator-llm run 'other job.yaml' "
        "--set 'a.b=c d' --limit 5"
    )
    assert lines[1] == "How the execution before it ended:"
    assert text(run_dir, lease=2)[0] != lines[0]


def test_a_directory_without_a_run_or_a_report_is_refused(tmp_path, run_dir):
    (tmp_path / "other").mkdir()
    for read in (report_text, read_report):
        with pytest.raises(ConfigurationError, match="is no run directory"):
            read(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="is written when an execution ends"):
        read_report(run_dir)


def test_the_report_of_a_run_is_read_back(kit):
    pd.DataFrame({"text": ["a"]}).to_parquet("docs.parquet")
    kit.run()
    lines = report_text(kit.directory / "run").splitlines()
    assert lines[0].startswith(f"{kit.directory / 'job.yaml'}: Done. ")
    assert lines[1].startswith("topic: ok 1 · ")
