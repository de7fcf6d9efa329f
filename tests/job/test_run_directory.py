"""The run directory: one process at a time, a manifest and a mark of success."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.run_directory import RunDirectory
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.wire.exchange import Record


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


def test_a_run_keeps_its_name_over_executions_and_its_manifest_has_the_last_job(directory):
    first = directory.begin("job")
    assert directory.begin("job, changed") == first
    assert json.loads((directory.path / "manifest.json").read_text())["job"] == "job, changed"


def test_a_manifest_that_cannot_be_read_is_said_and_not_overwritten(directory):
    (directory.path / "manifest.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        directory.begin("job")
    assert (directory.path / "manifest.json").read_text() == "{"


def test_a_run_directory_below_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/run cannot be used \(Not a directory\)\. A file stands where"):
        RunDirectory(tmp_path / "file" / "run").manifest()


def test_success_stands_there_only_after_a_good_end(directory):
    success = directory.path / "_SUCCESS"
    report = {"run": "r", "ended_at": "now"}
    directory.begin("job")
    directory.finish(report, {}, success=True)
    assert success.exists()
    directory.begin("job")
    assert not success.exists()
    directory.finish(report, {}, success=False)
    assert not success.exists()


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_written_is_said_and_what_was_known_stays(directory, monkeypatch):
    run = directory.begin("job")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"Cannot write .*manifest.json: No space left.*free space"):
            directory.begin("other job")
    assert directory.manifest()["run"] == run
    assert not list(directory.path.glob("*.new"))


def test_a_lease_that_cannot_be_written_is_no_lease(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", full)
        with pytest.raises(ConfigurationError, match="free space"):
            RunDirectory(tmp_path / "run").held()
    assert RunDirectory(tmp_path / "run").working() is None
    assert not list((tmp_path / "run" / "lease").glob("*.json"))


def test_replies_are_there_once_something_was_paid_for(directory):
    record = Record("0" * 32, "chat/1", "rejected", final=True, attempts=1, at=1.0, reply=embed(b"{}"))
    with Journal(directory.journal) as journal:
        journal.append([record])
        assert not directory.has_replies()
        journal.append([msgspec.structs.replace(record, status="ok", billed=True)])
    assert directory.has_replies()


@pytest.mark.parametrize("run", ["../outside", "/outside", "a/b", "a\0b", 7, None])
def test_a_run_whose_name_in_the_manifest_is_a_path_is_refused(directory, run):
    (directory.path / "manifest.json").write_text(json.dumps({"run": run}))
    with pytest.raises(ConfigurationError, match=r"names the run .* which is no name"):
        directory.manifest()
