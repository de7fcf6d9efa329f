"""Checking a run after it: sound ones are sound, and whatever is changed is found."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from curator_llm import runtime
from curator_llm.errors import ConfigurationError
from curator_llm.job.verify import verify_run
from curator_llm.journal.upkeep import compact, remove
from curator_llm.testing import faults_named_in_prompt

FILTER = {"filter": {"column": "topic__status", "in": ["ok"]}}


@pytest.fixture
def run(kit, monkeypatch):
    """Twelve rows in several pieces: one fails, one is rejected, one is null."""
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 5)
    texts = [f"text {n}" for n in range(9)] + ["http:500: a", "http:400: b", None]
    pd.DataFrame({"id": range(12), "text": pd.array(texts, dtype="string[pyarrow]")}).to_parquet("docs.parquet")
    kit.server.change(faults=faults_named_in_prompt)
    kit.given["endpoints"]["fake"]["max_attempts"] = 1
    return kit


def problems(kit) -> list[str]:
    runtime.close()
    return verify_run(kit.directory / "run").problems


@pytest.mark.parametrize(
    ("output", "stages"),
    [
        ({"parquet": "out"}, []),
        ({"jsonl": "out"}, []),
        ({"jsonl": "out.jsonl"}, [FILTER]),
        ({"parquet": "out"}, [FILTER]),
    ],
)
def test_a_run_that_came_to_its_end_is_sound(run, output, stages):
    assert run.run(output=output, stages=[*run.given["stages"], *stages]).exit_code == 0
    requests = run.server.ledger.requests
    found = verify_run(run.directory / "run")
    assert found.problems == []
    assert found.lines[0].startswith("journal: 11 records, 10 requests with a reply, 0 answered once more")
    rows, compared = (9, 9) if stages else (12, 11)
    assert found.lines[1] == f"output: {rows} rows, {compared} compared with what the journal answers"
    assert run.server.ledger.requests == requests


def test_a_run_with_retries_and_a_compacted_journal_is_sound(run):
    from tests.job.test_retries import retry

    run.run()
    retry(run, "rejected", settings=["prompt=Only {id}"])
    runtime.close()
    compact(run.directory / "run" / "journal")
    assert run.output()["topic__status"].tolist()[10] == "ok"
    assert problems(run) == []


def test_a_row_that_was_changed_is_found(run):
    run.run(output={"jsonl": "out.jsonl"})
    file = run.directory / "out.jsonl"
    file.write_text(file.read_text().replace("text 3", "text 4", 1))
    (problem,) = problems(run)
    assert problem.startswith(
        'output: 1 rows are not what the journal answers, the first one as answered row 3: {"id":3'
    )


def test_rows_that_are_gone_are_found(run):
    run.run(output={"jsonl": "out.jsonl"})
    file = run.directory / "out.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    first, count, statuses = problems(run)
    assert first.startswith(
        "output: 1 rows are not what the journal answers, the first one as answered row 10: no row "
    )
    assert count == "output: 11 rows, and the report says 12"
    assert "topic has ok 9 · " in statuses
    assert "skipped 1" in statuses.partition("the report says")[2]
    file.unlink()
    assert problems(run) == [f"output: {file} is not there"]


def test_a_part_that_is_gone_is_found(run):
    run.run()
    max((run.directory / "out").iterdir()).unlink()
    assert "output: 10 rows, and the report says 12" in problems(run)


def test_a_damaged_journal_and_answers_that_it_lacks_are_found(run):
    run.run()
    runtime.close()
    segment = next((run.directory / "run" / "journal" / "seg").iterdir())
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b'"status"', b'"Status"')]))
    found = problems(run)
    assert found[0] == "journal: 1 damaged lines; their rows are asked again by the next run"
    remove(run.directory / "run" / "journal", lambda record: record.status == "rejected")
    assert any("are not what the journal answers" in problem for problem in problems(run))


def test_a_run_that_did_not_end_well_has_its_journal_checked_alone(run):
    run.run(stages=[{"query_model": {**run.given["stages"][0]["query_model"], "fail_on_error": 1}}])
    found = verify_run(run.directory / "run")
    assert found.problems == []
    assert found.lines[1] == "output: not looked at, as the last execution ended as 'rows_failed'"


def test_a_directory_without_a_report_is_refused(kit, tmp_path):
    with pytest.raises(ConfigurationError, match="is no run directory"):
        verify_run(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"job": ""}))
    with pytest.raises(ConfigurationError, match="is written when an execution ends"):
        verify_run(tmp_path)
