"""Drivers in processes of their own that are stopped in the middle, and followed by others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

import curator_llm
from curator_llm.testing import FakeServerProcess, answer_to

ROWS = 5_000
IN_FLIGHT = 32
# Where the tests run in the background of a shell or under nohup, children are born deaf to Ctrl-C or SIGHUP.
PROGRAM = (
    "import signal, curator_llm.cli; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); curator_llm.cli.main()"
)


@pytest.fixture
def server():
    with FakeServerProcess(latency=0.01) as server:
        yield server


@pytest.fixture
def job(tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(curator_llm.__file__).parents[1]))
    texts = [f"text {n}" for n in range(ROWS)]
    pd.DataFrame({"id": range(ROWS), "text": texts}).to_parquet("docs.parquet", index=False)
    given = {
        "version": 1,
        "run_dir": "run",
        "input": {"parquet": "docs.parquet"},
        "output": {"parquet": "out"},
        "endpoints": {"fake": {"model": "m", "base_url": server.base_url, "max_concurrent_requests": IN_FLIGHT}},
        "stages": [{"query_model": {"endpoint": "fake", "prompt": "Topic of {text}", "output": "topic"}}],
    }
    Path("job.yaml").write_text(yaml.safe_dump(given))


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def check_whole(server: FakeServerProcess) -> None:
    """Check that every row has its own answer, and that none was answered twice."""
    out = pd.read_parquet("out")
    assert out["id"].tolist() == list(range(ROWS))
    assert out["topic"].tolist() == [answer_to(f"Topic of text {n}") for n in range(ROWS)]
    answered = Counter(seen.prompt for seen in server.read_ledger().seen if seen.end == "answered")
    assert set(answered.values()) == {1}
    assert len(answered) == ROWS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_run_ends_it_with_75_and_the_same_command_goes_on(job, server, number):
    first = start("run", "job.yaml", start_new_session=True)
    server.wait_until(lambda ledger: ledger.requests >= ROWS // 5, timeout_s=60)
    os.killpg(first.pid, number)
    os.killpg(first.pid, number)
    code, errors = ended(first)
    assert code == 75, errors
    assert "run the same command to go on" in errors
    assert "Traceback" not in errors
    assert not Path("out").exists()
    report = json.loads(Path("run/report.json").read_text())
    assert (report["status"], report["exit_code"]) == ("interrupted", 75)
    ledger = server.ledger
    assert report["stages"][0]["requests"] == ledger.requests == ledger.answered < ROWS

    code, errors = ended(start("run", "job.yaml"))
    assert code == 0, errors
    check_whole(server)
    assert server.ledger.requests == ROWS


def test_of_two_drivers_one_works_and_the_other_names_it_and_a_killed_one_is_followed_at_once(job, server):
    server.pause()
    first = start("run", "job.yaml", "--limit", "500")
    server.wait_until(lambda ledger: ledger.requests >= 1, timeout_s=60)
    code, errors = ended(start("run", "job.yaml", "--limit", "500"))
    assert code == 2
    assert f"Another process is at work in {Path('run').absolute()}: process {first.pid} on " in errors
    assert "curator-llm stop" in errors
    server.resume()
    server.wait_until(lambda ledger: ledger.answered >= 100, timeout_s=60)
    first.kill()
    ended(first)

    code, errors = ended(start("run", "job.yaml", "--limit", "500"))
    assert code == 0, errors
    assert pd.read_parquet("out")["topic"].tolist() == [answer_to(f"Topic of text {n}") for n in range(500)]
    assert server.ledger.requests - 500 <= 2 * IN_FLIGHT  # what was in flight at the kill, or on its way to the journal
    assert json.loads(Path("run/report.json").read_text())["lease"] == 2
