"""``ddf.llm``: lazy stages, and a preview, a comparison and a summary that compute no more than they show."""

from __future__ import annotations

import subprocess
import sys

import dask
import dask.dataframe as dd
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import answer_to


@pytest.fixture(autouse=True)
def threads():
    with dask.config.set(scheduler="threads"):
        yield


def frame(count: int = 40, npartitions: int = 4) -> dd.DataFrame:
    df = pd.DataFrame({"n": range(count), "text": [f"text {n}" for n in range(count)]})
    return dd.from_pandas(df, npartitions=npartitions)


def topic(server, **arguments) -> QueryModel:
    endpoint = Endpoint("m", base_url=server.base_url, price_usd=(1, 1))
    return QueryModel(endpoint, **{"prompt": "Topic of {text}", "output": "topic", **arguments})


def test_a_method_is_lazy_and_gives_what_the_stage_gives(server):
    lazy = frame().llm.query_model(Endpoint("m", base_url=server.base_url), prompt="Topic of {text}", output="topic")
    assert server.ledger.requests == 0
    assert lazy.npartitions == 4
    pd.testing.assert_frame_equal(lazy.compute(), topic(server)(frame()).compute())
    assert server.ledger.requests == 40


@pytest.mark.parametrize("first", ["curator_llm", "dask.dataframe"])
def test_the_accessor_is_there_whichever_is_imported_first_and_loads_no_dask_by_itself(first):
    program = f"""
import sys
import {first}
import curator_llm
assert ("dask.dataframe" in sys.modules) == ({first!r} == "dask.dataframe")
import dask.dataframe as dd
import importlib
assert type(dd.__spec__.loader).__module__ == "_frozen_importlib_external"
import pandas as pd
dd.from_pandas(pd.DataFrame({{"a": [1]}}), npartitions=1).llm.query_model
assert "distributed" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_preview_computes_rows_from_partitions_all_over_and_pays_them_once(server, capsys):
    shown = frame().llm.preview(topic(server), n=4)
    assert shown.index.tolist() == [0, 10, 20, 30]
    assert shown["reply"].tolist() == [answer_to(f"Topic of text {n}") for n in (0, 10, 20, 30)]
    assert "at this rate 1,000 rows cost $" in capsys.readouterr().err.splitlines()[-1]
    frame().llm.preview(topic(server), n=4)
    assert server.ledger.requests == 4
    topic(server)(frame()).compute()
    assert server.ledger.requests == 40


def test_a_preview_of_more_rows_than_partitions_takes_several_of_each(server):
    assert frame().llm.preview(topic(server), n=10).index.is_monotonic_increasing
    assert server.ledger.requests == 10


def test_partitions_without_rows_do_not_leave_a_preview_empty(server):
    ddf = frame()
    ddf = ddf[ddf["n"] == 15]
    assert ddf.llm.preview(topic(server), n=2).index.tolist() == [15]


def test_stages_are_compared_on_the_same_rows(server):
    stages = [topic(server), topic(server, prompt="Subject of {text}")]
    shown = frame().llm.compare(stages, n=4)
    assert shown["changed"].all()
    assert sorted(shown.index) == [0, 10, 20, 30]
    assert server.ledger.requests == 8


def test_a_summary_counts_all_partitions(server):
    out = topic(server, details=["cost_usd"])(frame())
    summary = out.llm.summary("topic")
    assert summary.counts.statuses == {"ok": 40}
    assert summary.sums["cost_usd"] > 0
