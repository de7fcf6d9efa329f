"""Which cluster a job runs on: options, then the job file, Dask's configuration, a SLURM step, this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from click.testing import CliRunner

from curator_llm.cli import main
from curator_llm.errors import ConfigurationError
from curator_llm.job.attach import address_in
from curator_llm.job.attach_order import chosen, cluster_or_step, from_options
from curator_llm.job.file.cluster import LocalWorkers, RunningCluster
from curator_llm.job.slurm_step import SlurmStep

STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
ADDRESS = {"scheduler-address": "tcp://10.0.0.9:8786"}


@pytest.fixture
def in_a_step(monkeypatch):
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)


def test_an_option_names_the_cluster():
    assert from_options("tcp://10.0.0.1:8786", None) == RunningCluster("tcp://10.0.0.1:8786")
    assert from_options(None, Path("scheduler.json")) == RunningCluster(scheduler_file="scheduler.json")
    assert from_options(None, None) is None


def test_two_options_are_an_error_of_usage(kit):
    given = ["run", str(kit.write()), "--scheduler", "tcp://10.0.0.1:8786", "--scheduler-file", "s.json"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 2
    assert "both given" in result.output


def test_what_is_said_comes_before_the_configuration_and_that_before_a_step(in_a_step):
    with dask.config.set(ADDRESS):
        assert cluster_or_step(LocalWorkers(3)) == LocalWorkers(3)
        assert cluster_or_step(None) == RunningCluster("tcp://10.0.0.9:8786")
    assert cluster_or_step(None) == SlurmStep("7.0", 1, 4, None)


def test_without_any_of_them_it_is_this_machine():
    assert cluster_or_step(None) == LocalWorkers()
    assert chosen(None).why == "as nothing names another"


def test_only_the_command_line_starts_a_step(in_a_step):
    assert chosen(None) == LocalWorkers()


# --- SLURM ------------------------------------------------------------------------------------------------------------
def test_a_batch_script_is_no_step_though_slurm_counts_its_tasks():
    assert SlurmStep.here({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None


def test_a_step_of_two_tasks_has_no_room_for_a_worker():
    assert SlurmStep.here({**STEP, "SLURM_STEP_NUM_TASKS": "2"}) is None


def test_a_requeued_job_has_another_scheduler_file():
    first, second = SlurmStep.here(STEP), SlurmStep.here({**STEP, "SLURM_RESTART_COUNT": "1"})
    assert first.scheduler_file != second.scheduler_file


def test_a_step_needs_dask_jobqueue(in_a_step, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'curator-llm\[slurm\]'"):
        SlurmStep.here().serve()


def task_of_a_step(job: Path, rank: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "curator_llm", "run", str(job)],
        env={**os.environ, **STEP, "SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": str(rank)},
        cwd=job.parent,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_tasks_of_a_step_are_scheduler_driver_and_worker_and_end_together(kit):
    job = kit.write()
    tasks = [task_of_a_step(job, rank) for rank in range(3)]
    errors = [task.communicate(timeout=90)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], errors
    assert "1 worker with 2 threads, as the 3 tasks of SLURM step 7.0 say" in errors[1]
    assert kit.server.ledger.requests == 12
    assert len(kit.output()) == 12
    assert not (kit.directory / "scheduler-7.0.json").exists()


def test_a_driver_that_cannot_begin_ends_the_tasks_of_its_step_and_those_that_come_late(kit):
    job = kit.write(input={"parquet": "nowhere.parquet"})
    tasks = [task_of_a_step(job, rank) for rank in (0, 1)]
    address_in(kit.directory / "scheduler-7.0.json")
    tasks.append(task_of_a_step(job, 2))
    errors = [task.communicate(timeout=90)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 2, 0], errors
