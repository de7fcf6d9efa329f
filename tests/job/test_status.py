"""`curator-llm status`: how far a run or a cluster is, asked from outside."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable, Iterator

import dask.dataframe as dd
import pandas as pd
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.cli import main
from curator_llm.job.run_directory import RunDirectory
from curator_llm.job.status import FILE, findable


@pytest.fixture
def address() -> Iterator[str]:
    """The scheduler of a cluster that others reach."""
    runtime.close()  # what other tests asked in this process is not that of a shell
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def answer(address: str, base_url: str, rows: int) -> None:
    stage = QueryModel(Endpoint("m", base_url=base_url), prompt="{text}", output="a", journal=False)
    ddf = dd.from_pandas(pd.DataFrame({"text": [f"row {n}" for n in range(rows)]}), npartitions=2)
    with Client(address, set_as_default=False) as client:
        assert len(client.compute(stage(ddf)).result()) == rows


def until(holds: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit


def said(*arguments: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, ["status", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_another_process_sees_what_the_workers_of_a_cluster_have_done(address, server, tmp_path):
    assert said("--scheduler", address).splitlines() == ["workers       0", "rows          no rows yet"]
    answer(address, server.base_url, 7)
    until(lambda: "7 of 7 rows known so far" in said("--scheduler", address))
    file = tmp_path / "dask.json"
    file.write_text(json.dumps({"address": address}))
    lines = dict(line.split(maxsplit=1) for line in said("--scheduler-file", file).splitlines())
    assert lines["workers"] == "1"
    assert lines["status"] == "ok 7"
    assert lines["requests"] == "0 of 256 in flight"


def test_a_run_at_work_says_how_far_it_is_and_one_that_ended_how_it_ended(kit, address, server):
    kit.run()
    directory = RunDirectory(kit.directory / "run")
    with directory.held(), findable(directory.path, address, total=50):
        answer(address, server.base_url, 7)
        until(lambda: "7 of 50 rows (14 %)" in said(directory.path))
        assert said(directory.path).startswith("At work here: process ")
    assert "Done." in said(directory.path)


def test_the_file_that_tells_the_scheduler_is_private_and_gone_when_the_run_has_ended(kit, address):
    run_dir = kit.directory
    with findable(run_dir, address, total=None):
        assert stat.S_IMODE((run_dir / FILE).stat().st_mode) == 0o600
        assert json.loads((run_dir / FILE).read_text()) == {"address": address, "total": None}
    assert not (run_dir / FILE).exists()
    with findable(run_dir, "inproc://10.0.0.1/1/1", total=None):
        assert not (run_dir / FILE).exists(), "nobody else reaches it"


def test_the_file_of_a_process_that_took_the_run_over_stays(kit):
    with findable(kit.directory, "tcp://10.0.0.1:1", total=None):
        (kit.directory / FILE).write_text('{"address": "tcp://10.0.0.2:2", "total": 9}')
    assert (kit.directory / FILE).exists()


@pytest.mark.parametrize("text", ['"text"', "{", "", "[1]"])
def test_a_damaged_file_hides_no_report(kit, text):
    kit.run()
    directory = RunDirectory(kit.directory / "run")
    with directory.held():
        (directory.path / FILE).write_text(text)
        assert "Done." in said(directory.path)


def test_a_scheduler_that_is_not_reached_is_named(kit, monkeypatch, tmp_path):
    monkeypatch.setattr("curator_llm.job.status._CONNECT_S", 0.2)
    assert "No scheduler answers at 'tcp://127.0.0.1:1'" in said("--scheduler", "tcp://127.0.0.1:1", exit_code=3)
    assert "says no address" in said("--scheduler-file", tmp_path / "none.json", exit_code=2)
    kit.run()
    directory = RunDirectory(kit.directory / "run")
    with directory.held(), findable(directory.path, "tcp://127.0.0.1:1", total=None):
        assert "cannot be asked from here" in said(directory.path)


@pytest.mark.parametrize("arguments", [[], ["run", "--scheduler", "tcp://127.0.0.1:1"]])
def test_status_is_asked_of_one_thing(arguments):
    assert "Give RUN_DIR, --scheduler or --scheduler-file." in said(*arguments, exit_code=2)
