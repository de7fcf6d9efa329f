"""``ddf.llm``: lazy stages, and a preview, a comparison and a summary that compute no more than they show."""

from __future__ import annotations

import subprocess
import sys

import dask
import dask.dataframe as dd
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel
from curator_llm.errors import ConfigurationError
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


def test_a_preview_reads_chats_and_indexes_as_the_stage_does(server, tmp_path):
    chats = [[{"role": "user", "content": f"Why {n}?"}] for n in range(4)]
    pd.DataFrame({"chat": chats}).to_parquet(tmp_path / "chats.parquet")
    ddf = dd.read_parquet(tmp_path / "chats.parquet")
    stage = QueryModel(Endpoint("m", base_url=server.base_url), messages="chat", output="said")
    assert ddf.llm.preview(stage, n=4)["status"].tolist() == ["ok"] * 4
    double = ddf.map_partitions(lambda df: df.set_index(pd.MultiIndex.from_product([["a"], range(len(df))])))
    assert double.llm.preview(stage, n=2)["status"].tolist() == ["ok"] * 2


@pytest.mark.parametrize("n", [0, -1])
def test_a_sample_has_one_row_or_more(server, n):
    with pytest.raises(ConfigurationError, match="`n` is "):
        frame().llm.preview(topic(server), n=n)


def test_looking_for_dask_without_importing_it_does_not_lose_the_accessor():
    program = """
import importlib.util
import curator_llm
importlib.util.find_spec("dask.dataframe")
import dask.dataframe as dd
import pandas as pd
dd.from_pandas(pd.DataFrame({"a": [1]}), npartitions=1).llm
"""
    subprocess.run([sys.executable, "-c", program], check=True)
