"""Three users from import to result: each program beside this file is run as its user would, and its lines are read.

The programs know nothing of tests; behind them stand fake servers, which count what is paid for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import curator_llm
from curator_llm.testing import FakeServer, answer_to

HERE = Path(__file__).parent


def run(directory: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a user's program in a directory of its own."""
    path = os.pathsep.join([str(Path(curator_llm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    interpreter = sys.executable if program.endswith(".py") else "bash"
    ended = subprocess.run(
        [interpreter, str(HERE / program), *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": path, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def test_a_data_engineer_adds_a_step_to_a_dask_pipeline(tmp_path):
    with FakeServer(latency=0.01) as one, FakeServer(latency=0.01) as other:
        ended = run(tmp_path, "pipeline_engineer.py", one.base_url, other.base_url)
        paid = [server.ledger.requests for server in (one, other)]
    assert ended.stdout.splitlines() == [
        "lazy: 8 partitions, id, text, summary, summary__status, summary__error",
        "written: 600 rows",
        "not ok: 0",
        "summary: ok 600",
        "the plain Dask way gives the equal frame",
    ]
    assert re.search(r"^summary: ok [\d,]+ · [\d,]+ reused · .* rows/s", ended.stderr, re.MULTILINE)
    assert "Traceback" not in ended.stderr
    assert sum(paid) == 600
    assert max(paid) <= 1.3 * 300
    tagged = pd.read_parquet(tmp_path / "tagged")
    assert tagged["summary"].tolist() == [answer_to(f"Summarise in one sentence: document {n}") for n in range(600)]


def test_a_researcher_tries_a_prompt_on_a_sample_and_then_labels_everything(tmp_path):
    with FakeServer(latency=0.01) as server:
        ended = run(tmp_path, "researcher.py", server.base_url)
        paid = server.ledger.requests
    shown = ended.stdout
    assert re.search(
        r"^100\s+user: Mood of: review 100\s+answer to \w+: Mood of: review 100\s+ok$", shown, re.MULTILINE
    )
    assert re.search(r"^100\s+True\s+answer to \w+: Mood of: review 100\s+(good|bad)$", shown, re.MULTILINE)
    assert re.search(r"^mood: ok 294 · skipped 6 \(null_input 6\)$", shown, re.MULTILINE)
    assert "the same on Dask: True" in shown
    assert "topic='answer to " in shown
    assert shown.splitlines()[-1] == "[True, True]"
    said = ended.stderr.splitlines()
    assert said[0].startswith("mood: 4 rows, 4 requests, 0 reused from ")
    assert said[0].endswith(", max $0.00012")
    assert said[2] == "mood: preview of 4 rows: under $0.0001; at this rate 300 rows cost $0.0038"
    assert "compare: 4 of 4 rows changed" in said
    assert any(line.startswith("mood: 300 rows, 290 requests, 4 reused from ") for line in said)
    assert "Traceback" not in ended.stderr
    # each prompt of the preview once, every row of the second stage once, three structured replies, two scores
    assert paid == 4 + 294 + 3 + 2


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_platform_engineer_runs_a_batch_job_that_is_told_to_end_and_goes_on(tmp_path):
    def answer(prompt: str) -> str:
        return "brief" if int(prompt.split()[2].strip(",")) % 2 else "a summary that is longer than it may be"

    with FakeServer(answer, latency=0.03) as server:
        ended = run(tmp_path, "platform_engineer.sh", server.base_url)
        asked = server.ledger.requests
    said = ended.stdout
    assert "job.yaml is sound: 240 rows; columns written: id, text, summary, summary__status, summary__error" in said
    assert "sample: 0" in said
    assert "told to end: 75\nnot marked as a success\n" in said
    assert "run again: 0" in said
    assert "summary: ok 120 · truncated 120 · " in said
    assert "retry run --status truncated" in said
    assert "retried: 0" in said
    assert "summary: ok 240 · " in said
    assert said.splitlines()[-1] == "Nobody works in run."
    assert "run the same command to go on" in (tmp_path / "first.log").read_text()
    for log in ("first.log", "second.log", "third.log"):
        assert "Traceback" not in (tmp_path / log).read_text()
    assert asked == 240 + 120  # every row once, and those that were cut off once more
    tagged = pd.read_parquet(tmp_path / "tagged")
    assert tagged["id"].tolist() == [f"{n:03d}" for n in range(240)]
    assert tagged["summary"].nunique() == 2
    assert set(tagged["summary__status"]) == {"ok"}
