"""Before anything is sent: who lacks the package, a key, or the journal, and which server cannot be connected to."""

from __future__ import annotations

import importlib.util
import logging
import socket
import subprocess
import sys
import time

import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, __version__
from curator_llm.cluster import preflight
from curator_llm.errors import AuthenticationError, JournalError, RunError
from curator_llm.job.attach import address_in


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def packages(client, *, scheduler=__version__, worker=__version__, **others):
    """What a cluster answers whose processes have these versions."""
    answer = client.get_versions(packages=["curator_llm"])
    here = answer["client"]["packages"]
    answer["scheduler"] = {"packages": here | {"curator_llm": scheduler}}
    answer["workers"] = {"tcp://10.0.0.2:1": {"packages": here | {"curator_llm": worker} | others}}
    return answer


def versions(client, monkeypatch, *, found=None, **given):
    """Check a cluster of which this is known; return what was said."""
    answer = packages(client, **given)

    async def get_versions(packages):
        return answer

    async def run(function, *args, **_):
        if function is not importlib.util.find_spec:
            pytest.fail("asks something else")
        return {"tcp://10.0.0.2:1": found}

    async def run_on_scheduler(function, *args):
        return found

    monkeypatch.setattr(client, "get_versions", get_versions)
    monkeypatch.setattr(client, "run", run)
    monkeypatch.setattr(client, "run_on_scheduler", run_on_scheduler)
    said: list[str] = []
    preflight.check_versions(client, said.append, 5)
    return said


# --- versions ---------------------------------------------------------------------------------------------------------
def test_a_scheduler_without_the_package_is_an_error_with_the_line_that_mends_it(client, monkeypatch):
    line = rf"^The scheduler does not have curator_llm: run `pip install curator-llm=={__version__}` there"
    with pytest.raises(RunError, match=line):
        versions(client, monkeypatch, scheduler=None)


def test_a_worker_without_the_package_is_an_error_that_says_which(client, monkeypatch):
    with pytest.raises(RunError, match=r"^Worker tcp://10\.0\.0\.2:1 does not have curator_llm: run `pip install"):
        versions(client, monkeypatch, worker=None)


def test_a_package_that_is_on_the_path_without_being_installed_is_there(client, monkeypatch):
    assert versions(client, monkeypatch, worker=None, found=importlib.util.find_spec("curator_llm")) == []


def test_other_versions_are_said_with_both(client, monkeypatch):
    here = client.get_versions()["client"]["packages"]["dask"]
    (said,) = versions(client, monkeypatch, scheduler="0.0.9", dask="2025.1.0")
    assert f"curator_llm {__version__} here, 0.0.9 on the scheduler;" in said
    assert f"dask {here} here, 2025.1.0 on tcp://10.0.0.2:1." in said


def test_a_cluster_that_has_what_is_here_is_nothing_to_say(client):
    said: list[str] = []
    preflight.check_versions(client, said.append, 5)
    assert said == []


def test_a_cluster_that_does_not_answer_is_no_failure(client, monkeypatch):
    async def refuse(**_):
        raise OSError("it is gone")

    monkeypatch.setattr(client, "get_versions", refuse)
    preflight.check_versions(client, pytest.fail, 5)


# --- jobs -------------------------------------------------------------------------------------------------------------
def test_a_key_that_workers_do_not_find_stops_a_job_by_the_name_of_its_reference(client, server, tmp_path, monkeypatch):
    monkeypatch.setenv("THERE", "made-up-key")
    endpoint = Endpoint(
        "m",
        base_url=server.base_url,
        api_key="env:THERE",
        headers={"x-token": "env:NOT_THERE", "x-team": "search"},
    )
    with pytest.raises(AuthenticationError, match=r"do not find a key at env:NOT_THERE\. Set the variable") as error:
        preflight.check_for_job(client, [endpoint], tmp_path / "journal", pytest.fail)
    assert "made-up-key" not in str(error.value)
    assert "env:THERE" not in str(error.value)


def test_a_run_that_goes_on_may_need_no_key_and_is_told_that_there_is_none(client, server, tmp_path):
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "20261125T000000.000000Z-host-1-00000001.jsonl").touch()
    said: list[str] = []
    endpoint = Endpoint("m", base_url=server.base_url, api_key="env:NOT_THERE")
    preflight.check_for_job(client, [endpoint], tmp_path, said.append)
    (line,) = said
    assert "do not find a key at env:NOT_THERE" in line


def test_what_workers_answer_about_a_key_is_not_the_key(client, monkeypatch):
    monkeypatch.setenv("THERE", "made-up-key")
    found = preflight._ask_workers(client, time.monotonic() + 5, references=["env:THERE"], journal=None, addresses={})
    assert len(found) == 2
    assert "made-up-key" not in repr(found)


def test_a_worker_that_sees_another_journal_stops_a_job(client, server, tmp_path, monkeypatch):
    seen = iter(["a" * 32, "b" * 32, "b" * 32])
    monkeypatch.setattr(preflight, "place_id", lambda _: next(seen))
    endpoint = Endpoint("m", base_url=server.base_url)
    with pytest.raises(JournalError, match=r"do not see the journal in .*journal: give the job a `run_dir` on a file"):
        preflight.check_for_job(client, [endpoint], tmp_path / "journal", pytest.fail)


def test_a_server_that_answers_is_connected_to_without_a_request(client, server, tmp_path):
    preflight.check_for_job(client, [Endpoint("m", base_url=server.base_url)], tmp_path / "journal", pytest.fail)
    assert server.ledger.requests == 0


def test_a_server_that_does_not_answer_is_said_and_is_no_failure_yet(client, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        said: list[str] = []
        preflight.check_for_job(client, [Endpoint("m", base_url=f"{origin}/v1")], tmp_path / "journal", said.append)
    (line,) = said
    assert line.startswith(f"{origin} does not answer ")
    assert line.endswith("(ConnectionRefusedError): the run goes on trying for a minute.")


def test_a_client_of_ones_own_is_not_connected_to(client, tmp_path):
    preflight.check_for_job(client, [Endpoint("m", client="pkg.mod:factory")], tmp_path / "journal", pytest.fail)


# --- stages on Dask frames --------------------------------------------------------------------------------------------
@pytest.fixture
def stage_on(client, server, monkeypatch):
    def stage_on(**endpoint):
        stage = QueryModel(Endpoint("m", base_url=server.base_url, **endpoint), prompt="{text}", output="a")
        with client.as_current():
            return stage(dd.from_pandas(pd.DataFrame({"text": ["a"]}), npartitions=1))

    preflight._checked.pop(client, None)
    return stage_on


def test_a_frame_is_refused_when_it_is_built_if_the_scheduler_lacks_the_package(client, stage_on, monkeypatch):
    answer = packages(client, scheduler=None)

    async def get_versions(packages):
        return answer

    async def nothing(*_, **__):
        return None

    monkeypatch.setattr(client, "get_versions", get_versions)
    monkeypatch.setattr(client, "run_on_scheduler", nothing)
    with pytest.raises(RunError, match=r"^The scheduler does not have curator_llm"):
        stage_on()


def test_a_key_that_workers_lack_is_logged_once_and_building_a_frame_goes_on(stage_on, caplog):
    with caplog.at_level(logging.WARNING, "distributed.curator_llm"):
        assert list(stage_on(api_key="env:NOT_THERE").columns) == ["text", "a", "a__status", "a__error"]
        stage_on(api_key="env:NOT_THERE")
    (record,) = [record for record in caplog.records if "NOT_THERE" in record.getMessage()]
    assert "do not find a key at env:NOT_THERE" in record.getMessage()


def test_a_function_that_gives_a_key_is_not_called_by_building_a_frame(stage_on, caplog):
    with caplog.at_level(logging.WARNING, "distributed.curator_llm"):
        stage_on(api_key="callable:no.such.module:key")
    assert not caplog.records


# --- a real scheduler without the package -----------------------------------------------------------------------------
HIDE = """
import importlib.metadata
import sys
import distributed.versions

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "curator_llm":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def version(name):
    if name == "curator_llm":
        raise importlib.metadata.PackageNotFoundError(name)
    return importlib.metadata.version(name)

sys.meta_path.insert(0, Hide())
for name in [name for name in sys.modules if name.partition(".")[0] == "curator_llm"]:
    del sys.modules[name]  # the `dask` command has it loaded
distributed.versions.version = version
"""


def test_a_scheduler_that_cannot_import_the_package_is_found_out(server, tmp_path):
    (tmp_path / "hide.py").write_text(HIDE)
    file = tmp_path / "scheduler.json"
    options = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--preload", str(tmp_path / "hide.py")]
    command = [sys.executable, "-m", "dask", "scheduler", "--scheduler-file", str(file), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as scheduler:
        try:
            with Client(address_in(file), set_as_default=False) as client, client.as_current():
                stage = QueryModel(Endpoint("m", base_url=server.base_url), prompt="{text}", output="a")
                with pytest.raises(RunError, match=r"^The scheduler does not have curator_llm: run `pip install"):
                    stage(dd.from_pandas(pd.DataFrame({"text": ["a"]}), npartitions=1))
        finally:
            scheduler.terminate()
