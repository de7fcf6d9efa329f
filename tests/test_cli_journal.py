"""The command line of journals: what it prints, and what is gone after it."""

from __future__ import annotations

import time

import pandas as pd
import pytest
from click.testing import CliRunner

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.cli import main


def call(*arguments: str):
    return CliRunner().invoke(main, ["journal", *map(str, arguments)])


@pytest.fixture
def asked(server, tmp_path):
    """A stage, and three rows it has answered."""
    endpoint = Endpoint("m", base_url=server.base_url)
    stage = QueryModel(endpoint, prompt="T {text}", output="t", journal=str(tmp_path / "run" / "journal"))
    server.change(answer=lambda prompt, _: f"über {prompt}")
    frame = pd.DataFrame({"text": ["Jane Doe", "b", "c"]})
    stage(frame)
    runtime.close()
    return stage, frame


def reused(asked) -> list[int]:
    stage, frame = asked
    answers = stage.replay(frame)
    runtime.close()
    return [row for row, status in enumerate(answers["t__status"]) if status == "ok"]


def test_stats_say_what_is_in_a_journal_or_a_run_directory(asked, tmp_path):
    for directory in (tmp_path / "run", tmp_path / "run" / "journal"):
        shown = call("stats", directory)
        assert shown.exit_code == 0
        lines = shown.output.splitlines()
        assert lines[0].startswith(f"{tmp_path / 'run' / 'journal'}: 1 file, ")
        assert lines[1] == "3 records, 3 requests with a reply"
        assert lines[3].split() == ["model", "status", "requests", "attempts", "input", "tokens", "output", "tokens"]
        assert lines[4].split()[:4] == ["m", "ok", "3", "3"]


def test_replies_with_a_text_are_forgotten(asked, tmp_path):
    dry = call("forget", tmp_path / "run", "--containing", "über T Jane", "--dry-run")
    assert dry.output.endswith(": 1 record of 3 would be removed.\n")
    assert reused(asked) == [0, 1, 2]
    done = call("forget", tmp_path / "run", "--containing", "über T Jane", "--status", "ok", "--model", "m")
    assert ": 1 record of 3 removed, " in done.output
    assert reused(asked) == [1, 2]


def test_all_options_must_hold(asked, tmp_path):
    for other in (("--status", "failed"), ("--model", "n"), ("--run", "x"), ("--key", "00")):
        assert ": 0 records of 3 removed" in call("forget", tmp_path / "run", "--containing", "Jane", *other).output
    assert reused(asked) == [0, 1, 2]


def test_forgetting_without_saying_what_is_refused(asked, tmp_path):
    refused = call("forget", tmp_path / "run")
    assert (refused.exit_code, reused(asked)) == (2, [0, 1, 2])
    assert "Say which replies: --containing" in refused.stderr


def test_old_replies_are_purged(asked, tmp_path, monkeypatch):
    assert ": 0 records of 3 removed" in call("purge", tmp_path / "run", "--older-than", "1d").output
    now = time.time()
    monkeypatch.setattr("curator_llm.cli_journal.time.time", lambda: now + 2 * 86_400)
    assert ": 3 records of 3 removed" in call("purge", tmp_path / "run", "--older-than", "1d").output
    assert reused(asked) == []


def test_compaction_says_what_it_did(asked, tmp_path):
    stage, frame = asked
    stage(frame[:1].assign(text="d"))
    runtime.close()
    assert ": 2 files became 1, 0 records of no use went" in call("compact", tmp_path / "run").output
    assert reused(asked) == [0, 1, 2]


def test_replies_to_given_rows_are_forgotten_by_their_stage(asked):
    stage, frame = asked
    assert stage.forget(frame.iloc[1:]) == 2
    assert reused(asked) == [0]
    assert stage.forget(frame.iloc[1:]) == 0


def test_a_journal_in_use_ends_with_3_and_what_is_none_too(asked, tmp_path):
    stage, frame = asked
    stage(frame[:1].assign(text="d"))
    for arguments in (("compact",), ("purge", "--older-than", "1s")):
        refused = call(arguments[0], tmp_path / "run", *arguments[1:])
        assert refused.exit_code == 3
        assert "A process still writes to" in refused.stderr
    runtime.close()
    assert call("stats", tmp_path).stderr == (
        f"Error: {tmp_path} is no journal: give the directory that holds FORMAT, seg and idx.\n"
    )
