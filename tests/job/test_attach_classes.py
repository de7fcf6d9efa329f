"""A cluster of a class, and a scheduler that says its address in a file."""

from __future__ import annotations

import threading

import pytest
from distributed import LocalCluster

from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job import attach
from curator_llm.job.attach import address_in, attached
from curator_llm.job.file.cluster import ClassCluster, RunningCluster

HERE = {"processes": False, "n_workers": 0, "threads_per_worker": 1, "dashboard_address": ":0"}


@pytest.mark.parametrize(
    "asked", [{"n_workers": 1}, {"adapt": {"minimum": 1, "maximum": 2}}], ids=lambda asked: next(iter(asked))
)
def test_a_cluster_of_a_class_is_started_asked_for_workers_and_closed(asked):
    said: list[str] = []
    with attached(ClassCluster("distributed.LocalCluster", HERE, **asked), say=said.append) as client:
        cluster = client.cluster
        assert client.submit(sum, [1, 2]).result() == 3
    assert cluster.status.name == "closed"
    (line,) = said
    assert line.startswith("cluster: inproc://")
    assert line.endswith("1 worker with 1 thread, as the job says")


@pytest.mark.parametrize(
    ("path", "kwargs", "said"),
    [
        ("dask_no_such.Cluster", {}, "cannot be imported here"),
        ("distributed.NoCluster", {}, "there is no NoCluster in distributed"),
        ("dask.config.set", {}, "is no Dask cluster"),
        ("distributed.SpecCluster", {"wokers": 1}, "does not take the `kwargs`"),
    ],
)
def test_a_class_that_cannot_be_used_is_an_error_that_says_why(path, kwargs, said):
    with pytest.raises(ConfigurationError, match=said), attached(ClassCluster(path, kwargs, n_workers=1)):
        pytest.fail("it was started")


def test_a_scheduler_file_is_waited_for_until_it_is_whole(tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://')
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(address_in(file)))
    thread.start()
    file.write_text('{"address": "tcp://10.0.0.1:8786"}')
    thread.join()
    assert found == ["tcp://10.0.0.1:8786"]


def test_a_scheduler_file_that_does_not_come_is_an_error_with_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(attach, "_FILE_S", 0.0)
    with pytest.raises(RunError, match=r"`dask scheduler --scheduler-file .*scheduler\.json`"):
        address_in(tmp_path / "scheduler.json")


def test_a_job_runs_on_the_cluster_of_a_scheduler_file(kit):
    with LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0") as cluster:
        file = kit.directory / "scheduler.json"
        file.write_text(f'{{"address": "{cluster.scheduler_address}"}}')
        assert kit.run(cluster={"scheduler_file": str(file)}).exit_code == 0
        assert kit.load(cluster={"scheduler_file": "s.json"}).cluster == RunningCluster(scheduler_file="s.json")
        assert cluster.status.name == "running"
