"""Workers that do not share a journal: one warning, with what it means."""

from __future__ import annotations

import logging

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.cluster.journal_places import SeenPlaces
from curator_llm.journal.place_id import place_id

ROWS = 40


@pytest.fixture
def ask(server, tmp_path, monkeypatch, caplog):
    """Ask on two worker processes that look for their journal in these directories; return what was warned."""
    monkeypatch.delenv("DASK_CURATOR_LLM__JOURNAL__PATH")

    def ask(*homes: str) -> list[str]:
        workers = {
            number: {"cls": Nanny, "options": {"nthreads": 1, "env": {"XDG_CACHE_HOME": str(tmp_path / home)}}}
            for number, home in enumerate(homes)
        }
        scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": ":0"}}
        ddf = dd.from_pandas(pd.DataFrame({"text": [f"row {n}" for n in range(ROWS)]}), npartitions=8)
        with (
            dask.config.set({"curator-llm.journal.path": None}),
            SpecCluster(workers, scheduler) as cluster,
            Client(cluster) as client,
            caplog.at_level(logging.WARNING, "distributed.curator_llm"),
        ):
            client.wait_for_workers(len(homes))
            stage = QueryModel(Endpoint("m", base_url=server.base_url), prompt="{text}", output="a")
            assert stage(ddf).compute()["a__status"].eq("ok").all()
            client.sync(client.scheduler.identity)  # events that came before this answer are heard
        return [record.getMessage() for record in caplog.records if "share a journal" in record.getMessage()]

    return ask


def test_workers_that_keep_their_replies_apart_are_said_once_with_the_consequence(ask, tmp_path):
    (warning,) = ask("one", "two")
    assert str(tmp_path / "one") in warning
    assert str(tmp_path / "two") in warning
    assert "paid for again" in warning


def test_workers_of_several_hosts_that_share_a_journal_are_nothing_to_warn_of(caplog):
    seen = SeenPlaces()
    for host in ("a", "b"):
        seen.hear({"output": "topic", "path": "/shared/j", "id": "0" * 32, "host": host})
    assert not caplog.records


def test_the_same_path_on_two_hosts_is_told_apart(caplog):
    seen = SeenPlaces()
    for host in ("a", "b", "c"):
        seen.hear({"output": "topic", "path": "/scratch/j", "id": host * 32, "host": host})
    (record,) = caplog.records
    assert record.getMessage() == (
        "topic: workers do not share a journal: /scratch/j on a; /scratch/j on b. Each keeps its own replies: a row "
        "that moves to another worker is paid for again, and so may be a rerun. Give `journal`, or the job's run_dir, "
        "a directory that all workers share."
    )


def test_two_stages_may_have_a_journal_each(caplog):
    seen = SeenPlaces()
    seen.hear({"output": "topic", "path": "/a", "id": "a" * 32, "host": "a"})
    seen.hear({"output": "mood", "path": "/b", "id": "b" * 32, "host": "a"})
    assert not caplog.records


def test_a_directory_has_one_id_for_all_and_a_copy_of_the_path_elsewhere_has_another(tmp_path):
    (tmp_path / "other").mkdir()
    assert place_id(tmp_path) == place_id(tmp_path)
    assert place_id(tmp_path) != place_id(tmp_path / "other")
    assert place_id(tmp_path / "nowhere") is None
