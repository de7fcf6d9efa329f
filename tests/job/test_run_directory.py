"""The run directory: one process at a time, and an output that is whole or as it was before."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.job.run_directory import RunDirectory


def write_output(directory: RunDirectory, output, text: str) -> None:
    partial = directory.partial(output)
    partial.mkdir(parents=True)
    (partial / "part").write_text(text)
    directory.put_in_place(partial, output)


@pytest.fixture
def directory(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.held():
        yield directory


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path, directory):
    program = (
        "import sys; from pathlib import Path; from curator_llm.job.run_directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).held(): pass"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(directory.path)], capture_output=True, text=True, check=False
    )
    assert "Another process is at work in" in ended.stderr
    assert "process " in ended.stderr


def test_the_lock_ends_with_the_run(tmp_path):
    for _ in range(2):
        with RunDirectory(tmp_path / "run").held():
            pass


def test_a_run_keeps_its_name_over_executions_and_replaces_its_own_output(tmp_path, directory):
    output = tmp_path / "deep" / "out"
    first = directory.begin("job", output)
    write_output(directory, output, "first")
    directory.check_output(output)
    assert directory.begin("job, changed", output) == first
    write_output(directory, output, "second")
    assert [file.read_text() for file in output.iterdir()] == ["second"]
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert json.loads((directory.path / "manifest.json").read_text())["job"] == "job, changed"


def test_an_output_of_somebody_else_is_refused_and_left_alone(tmp_path, directory):
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(ConfigurationError, match="did not write it"):
        directory.check_output(output)


def test_an_output_put_where_the_own_one_was_is_not_the_own_one(tmp_path, directory):
    output = tmp_path / "out"
    directory.begin("job", output)
    write_output(directory, output, "own")
    output.rename(tmp_path / "moved away")
    output.mkdir()
    with pytest.raises(ConfigurationError, match="did not write it"):
        directory.check_output(output)


def test_an_output_that_comes_up_during_the_run_is_not_replaced(tmp_path, directory):
    output = tmp_path / "out"
    directory.begin("job", output)
    directory.partial(output).mkdir()
    output.write_text("precious")
    with pytest.raises(ConfigurationError, match="did not write it"):
        directory.put_in_place(directory.partial(output), output)
    assert output.read_text() == "precious"


def test_what_a_killed_execution_left_is_removed_at_the_next_start(tmp_path, directory):
    output = tmp_path / "out"
    directory.begin("job", output)
    partial = directory.partial(output)
    partial.mkdir()
    (partial / "part").write_text("torn")
    other = tmp_path / "out.partial-another-run"
    other.mkdir()
    directory.begin("job", output)
    assert not partial.exists()
    assert other.exists()


def test_an_output_is_brought_back_after_a_kill_between_the_two_renames(tmp_path, directory):
    output = tmp_path / "out"
    run = directory.begin("job", output)
    write_output(directory, output, "first")
    output.rename(tmp_path / f"out.replaced-{run}")
    directory.check_output(output)
    directory.begin("job", output)
    assert (output / "part").read_text() == "first"
    directory.check_output(output)


def test_an_output_around_the_run_directory_is_refused(tmp_path, directory):
    with pytest.raises(ConfigurationError, match="would replace it"):
        directory.check_output(tmp_path)


def test_a_manifest_that_cannot_be_read_is_said_and_not_overwritten(tmp_path, directory):
    (directory.path / "manifest.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        directory.begin("job", tmp_path / "out")
    assert (directory.path / "manifest.json").read_text() == "{"


def test_success_stands_there_only_after_a_good_end(tmp_path, directory):
    success = directory.path / "_SUCCESS"
    report = {"run": "r", "ended_at": "now"}
    directory.begin("job", tmp_path / "out")
    directory.finish(report, success=True)
    assert success.exists()
    directory.begin("job", tmp_path / "out")
    assert not success.exists()
    directory.finish(report, success=False)
    assert not success.exists()
