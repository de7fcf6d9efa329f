"""Stages on Dask frames: the same frame from every scheduler, and nothing sent before it must be."""

from __future__ import annotations

import warnings

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, QueryRewardModel
from curator_llm.errors import AuthenticationError, MissingColumnError
from curator_llm.testing import FakeServer, answer_to


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def ddf() -> dd.DataFrame:
    df = pd.DataFrame({"n": range(60), "text": [f"row {n}" for n in range(60)]}, index=range(100, 160))
    return dd.from_pandas(df, npartitions=5)


def stage(server: FakeServer, **arguments) -> QueryModel:
    endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=8)
    return QueryModel(endpoint, prompt="{text} {n}", output="a", **arguments)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes", "distributed"])
@pytest.mark.parametrize("plain", [False, True])
def test_every_scheduler_gives_the_frame_that_pandas_gives(server, ddf, request, scheduler, plain):
    if scheduler == "distributed":
        request.getfixturevalue("client")
    run = stage(server, details=["input_tokens"])
    lazy = ddf.map_partitions(run, meta=run.meta(ddf)) if plain else run(ddf)
    with dask.config.set({"num_workers": 2}):
        out = lazy.compute(scheduler=None if scheduler == "distributed" else scheduler)
    with dask.config.set(scheduler="synchronous"):
        pd.testing.assert_frame_equal(out, run(ddf.compute()))
    assert out["a"].tolist() == [answer_to(f"row {n} {n}") for n in range(60)]
    assert server.ledger.requests == 60


def test_building_a_graph_sends_nothing_and_needs_no_key(server, ddf):
    endpoint = Endpoint("m", base_url=server.base_url, api_key="env:NOWHERE_KEY")
    run = QueryModel(endpoint, prompt="{text}", output="a")
    with_meta, without_meta = run(ddf), ddf.map_partitions(run)
    assert with_meta.dtypes.to_dict() == without_meta.dtypes.to_dict()
    score = QueryRewardModel(endpoint, messages="text")
    assert "reward__helpfulness" in ddf.map_partitions(score).columns
    assert server.ledger.requests == 0


def test_partitions_index_and_divisions_are_kept(server, ddf):
    out = stage(server)(ddf)
    assert out.divisions == ddf.divisions
    assert out.map_partitions(len, meta=(None, int)).compute(scheduler="threads").tolist() == [12] * 5
    assert out.index.compute(scheduler="threads").equals(ddf.index.compute(scheduler="threads"))


def test_declared_dtypes_are_those_of_every_partition(server, ddf):
    ddf = dd.concat([ddf, ddf[ddf.n < 0], ddf.assign(text=None)])
    run = stage(server, details=True)
    lazy = run(ddf)
    parts = dask.compute(*lazy.to_delayed(), scheduler="threads")
    added = [name for name in lazy.columns if name not in ddf.columns]
    for part in parts:
        assert part[added].dtypes.to_dict() == lazy._meta[added].dtypes.to_dict()
        assert "object" not in {str(dtype) for dtype in part[added].dtypes}


def test_a_missing_column_is_an_error_at_build(server, ddf):
    with pytest.raises(MissingColumnError, match="reads column 'question'"):
        QueryModel(Endpoint("m", base_url=server.base_url), prompt="{question}")(ddf)


def test_equal_stages_have_equal_task_names(server, ddf):
    assert stage(server)(ddf)._name == stage(server)(ddf)._name
    assert stage(server)(ddf)._name != stage(server, choices=["a", "b"])(ddf)._name


def test_two_stages_in_a_row_run_as_one_pass(server, ddf, client):
    first = stage(server)
    second = QueryModel(first.spec.endpoint, prompt="Again: {a}", output="b")
    out = second(first(ddf)).compute()
    assert out["b"].tolist() == [answer_to(f"Again: {answer}") for answer in out["a"]]
    assert server.ledger.requests == 120


def test_dask_runs_the_stage_again_and_pays_nothing(server, ddf, client):
    lazy = stage(server)(ddf)
    lazy.compute()
    len(lazy)
    lazy.head(3)
    lazy.set_index("n").compute()
    ddf.repartition(npartitions=2).map_partitions(stage(server)).compute()
    assert server.ledger.requests == 60


def test_an_error_of_the_run_arrives_as_it_was_raised(server, ddf, client):
    server.change(api_key="right")
    with pytest.raises(AuthenticationError, match="asks for a key") as caught:
        stage(server)(ddf).compute()
    assert caught.value.__cause__ is None
    assert server.ledger.requests <= 2


def test_a_stage_takes_only_frames(server):
    with pytest.raises(ValueError, match="pandas or Dask DataFrame, not list"):
        stage(server)([1])


def test_a_partition_of_a_process_pool_is_waited_for_however_long_it_takes(server, tmp_path):
    server.change(latency=1.2)
    ddf = dd.from_pandas(pd.DataFrame({"text": ["a", "b"]}), npartitions=2)
    endpoint = Endpoint("m", base_url=server.base_url)
    out = QueryModel(endpoint, prompt="{text}", output="a", journal=str(tmp_path))(ddf).compute(scheduler="processes")
    assert out["a__status"].tolist() == ["ok", "ok"]


def test_a_group_is_not_asked_about_when_a_graph_is_built_and_needs_no_key(server, tmp_path):
    ddf = dd.from_pandas(pd.DataFrame({"g": [1, 1, 2], "text": ["a", "b", "c"]}), npartitions=1)
    for endpoint in (Endpoint("m", base_url=server.base_url), Endpoint("gpt-4.1-mini")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Dask advises to give meta
            ddf.groupby("g").apply(QueryModel(endpoint, prompt="{text}", output="a", journal=str(tmp_path)))
    assert server.ledger.requests == 0
