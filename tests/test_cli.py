"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

import curator_llm
from curator_llm import cli
from curator_llm.cli import main
from curator_llm.job.interrupts import SIGNALS
from curator_llm.testing import answer_to


@pytest.fixture
def job(tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"id": range(40), "text": [f"text {n}" for n in range(40)]}).to_parquet("docs.parquet", index=False)
    return {
        "version": 1,
        "run_dir": "run",
        "input": {"parquet": "docs.parquet"},
        "output": {"parquet": "out"},
        "endpoints": {"fake": {"model": "m", "base_url": server.base_url, "max_concurrent_requests": 4}},
        "stages": [{"query_model": {"endpoint": "fake", "prompt": "Topic of {text}", "output": "topic"}}],
    }


def call(*arguments: str, job=None):
    if job is not None:
        Path("job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    return CliRunner().invoke(main, list(arguments))


def start(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(curator_llm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    # Where the tests run in the background of a shell, children are born deaf to Ctrl-C.
    listening = "import signal, curator_llm.cli; signal.signal(signal.SIGINT, signal.default_int_handler); "
    return subprocess.Popen(
        [sys.executable, "-c", f"{listening} curator_llm.cli.main()", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_and_version_say_what_there_is():
    assert call("--version").output == f"curator-llm, version {curator_llm.__version__}\n"
    for command in ([], ["run"], ["check"], ["retry"], ["stop"], ["report"], ["verify"], ["journal"], ["serve"]):
        shown = call(*command, "--help")
        assert shown.exit_code == 0
        assert "Usage: " in shown.output
    assert "--dry-run" in call("run", "--help").output
    assert "5 budget reached" in " ".join(call("run", "--help").output.split())


def test_dask_finds_the_command():
    from importlib.metadata import entry_points

    scripts = {point.value for point in entry_points(group="dask_cli") if point.name == "curator-llm"}
    assert scripts <= {"curator_llm.cli:main"}  # empty when run from a source tree
    assert main.name == "curator-llm"  # the name under which Dask lists it


def test_check_says_what_is_read_and_written_and_sends_nothing(job, server):
    checked = call("check", "job.yaml", job=job)
    assert checked.exit_code == 0
    assert "topic: m, reads text" in checked.stdout
    assert "job.yaml is sound: 40 rows; columns written: id, text, topic, topic__status, topic__error" in checked.stdout
    assert server.ledger.requests == 0
    assert not Path("run").exists()


@pytest.mark.parametrize("command", [["check", "job.yaml"], ["run", "job.yaml"], ["run", "job.yaml", "--dry-run"]])
def test_a_wrong_job_file_ends_with_2_and_one_line_that_helps(job, command):
    job["stages"][0]["query_model"]["promt"] = job["stages"][0]["query_model"].pop("prompt")
    ended = call(*command, job=job)
    assert ended.exit_code == 2
    assert ended.stderr == "Error: job.yaml: stages[0].query_model: unknown key 'promt'. Did you mean 'prompt'?\n"
    assert ended.stdout == ""


def test_an_output_of_somebody_else_ends_with_2_in_check_and_run(job, tmp_path):
    (tmp_path / "out").mkdir()
    for command in ("check", "run"):
        ended = call(command, "job.yaml", job=job)
        assert ended.exit_code == 2
        assert "did not write it" in ended.stderr


def test_ctrl_c_before_anything_was_done_ends_with_75(job, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("curator_llm.job.file.job_file.load_job", interrupted)
    ended = call("run", "job.yaml", job=job)
    assert (ended.exit_code, ended.stderr) == (75, "Interrupted before anything was done.\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_process_takes_each_signal_for_ctrl_c_before_its_command_and_is_deaf_to_it_after(monkeypatch, number):
    def send(**_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(cli, "main", send)
    before = {one: signal.signal(one, lambda *_: None) for one in SIGNALS}
    try:
        with pytest.raises(KeyboardInterrupt):
            cli.console()
        send()  # what is in place is not said to be interrupted
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_a_process_under_nohup_stays_deaf_to_sighup(monkeypatch):
    monkeypatch.setattr(cli, "main", lambda **_: signal.raise_signal(signal.SIGHUP))
    before = {one: signal.signal(one, signal.SIG_IGN) for one in SIGNALS}
    try:
        cli.console()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_a_scheduler_of_the_command_line_is_for_that_execution_alone(job, server, monkeypatch):
    monkeypatch.setattr("curator_llm.job.attach._CONNECT_S", 0.2)
    failed = call("run", "job.yaml", "--scheduler", "tcp://127.0.0.1:9", job=job)
    assert (failed.exit_code, len(server.ledger.seen)) == (3, 0)
    assert "No scheduler answers at 'tcp://127.0.0.1:9'" in failed.stderr
    assert "127.0.0.1:9" not in Path("run/manifest.json").read_text()


def test_unknown_options_and_commands_end_with_2():
    assert call("run", "job.yaml", "--shceduler", "x").exit_code == 2
    assert call("rnu").exit_code == 2


def test_a_dry_run_prints_requests_and_sends_nothing(job, server):
    ended = call("run", "job.yaml", "--dry-run", job=job)
    assert ended.exit_code == 0
    assert "topic: 40 rows, 40 requests, 0 reused" in ended.stdout
    assert "user: Topic of text 0" in ended.stdout
    assert server.ledger.requests == 0


def test_values_are_set_and_rows_limited_from_the_command_line(job, server):
    ended = call("run", "job.yaml", "--limit", "3", "--set", "stages.topic.prompt=About {text}", "--dry-run", job=job)
    assert ended.exit_code == 0
    assert "topic: 3 rows, 3 requests, 0 reused" in ended.stdout
    assert "user: About text 0" in ended.stdout
    checked = call("check", "job.yaml", "--set", "stages.topic.output=subject")
    assert "columns written: id, text, subject, subject__status, subject__error" in checked.stdout
    wrong = call("run", "job.yaml", "--set", "stages.topic.promt=x")
    assert wrong.exit_code == 2
    assert "Did you mean 'prompt'?" in wrong.stderr
    assert server.ledger.requests == 0


def test_commands_on_a_directory_without_a_run_end_with_2(job):
    for command in (["stop"], ["report"], ["report", "--json"], ["retry", "--status", "truncated"]):
        ended = call(command[0], "elsewhere", *command[1:])
        assert ended.exit_code == 2
        assert "elsewhere is no run directory" in ended.stderr


def test_a_run_is_reported_stopped_and_retried_by_its_directory(job, server):
    server.change(answer="a word too many of them")
    job["stages"][0]["query_model"]["generation"] = {"max_tokens": 2}
    call("check", "job.yaml", job=job)
    first = start("run", "job.yaml", "--limit", "2")
    assert first.communicate(timeout=60)[1].count("truncated 2") == 1
    assert call("stop", "run").output == "Nobody works in run.\n"
    assert json.loads(call("report", "run", "--json").output)["limit"] == 2
    assert "curator-llm retry run --status truncated" in call("report", "run").output
    assert call("retry", "run", "--status", "truncatd").exit_code == 2

    server.change(answer=None)
    second = start("retry", "run", "--status", "truncated", "--set", "generation.max_tokens=1000")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert pd.read_parquet("out")["topic"].tolist() == [answer_to(f"Topic of text {n}") for n in range(2)]
    assert "topic: truncated asked anew with generation.max_tokens=1000" in call("report", "run").output
    assert call("verify", "run").output.endswith("run is sound.\n")
    assert server.ledger.requests == 4


def test_a_run_in_a_process_of_its_own_is_interrupted_with_75_and_goes_on_where_it_was(job, server, tmp_path):
    call("check", "job.yaml", job=job)
    server.pause()
    first = start("run", "job.yaml")
    server.wait_until(lambda ledger: ledger.requests >= 1, timeout_s=60)
    server.resume()
    server.pause()
    server.wait_until(lambda ledger: ledger.requests >= 5, timeout_s=60)
    first.send_signal(signal.SIGINT)
    server.resume()
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 75
    assert "run the same command to go on" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "run" / "report.json").read_text())["status"] == "interrupted"

    second = start("run", "job.yaml")
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert output == ""
    assert "topic: ok 40" in errors
    assert pd.read_parquet("out")["topic"].tolist() == [answer_to(f"Topic of text {n}") for n in range(40)]
    assert server.ledger.requests == 40


def test_a_refused_key_ends_with_3_and_prints_the_message_alone(job, server, monkeypatch):
    monkeypatch.setenv("WRONG_KEY", "canary-9c1f")
    server.change(api_key="right")
    job["endpoints"]["fake"]["api_key"] = "env:WRONG_KEY"
    call("check", "job.yaml", job=job)
    ended = start("run", "job.yaml")
    output, errors = ended.communicate(timeout=60)
    assert ended.returncode == 3
    assert "refused the key from env:WRONG_KEY" in errors
    assert "Traceback" not in errors
    assert "canary" not in output + errors
    assert server.ledger.requests == 1


def test_serve_serves_the_embedded_model_until_it_is_told_to_stop():
    served = start("serve")
    assert served.stdout is not None
    address = served.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    served.send_signal(signal.SIGINT)
    served.communicate(timeout=30)
    assert served.returncode == 0


def test_serve_says_which_models_there_are():
    ended = call("serve", "smolm2")
    assert ended.exit_code == 2
    assert "Did you mean 'smollm2'?" in ended.stderr
