"""The job file's grammar: what is read, and what is refused with place, value and fix."""

from __future__ import annotations

import pytest

from curator_llm.errors import JobFileError
from curator_llm.job.file.cluster import LocalWorkers
from curator_llm.job.file.job_file import load_job
from curator_llm.job.file.query import Query

STAGE = {"endpoint": "fake", "prompt": "{text}", "output": "topic"}


def refused(kit, **changes) -> str:
    with pytest.raises(JobFileError) as caught:
        kit.load(**changes)
    return str(caught.value)


def test_a_job_file_becomes_frozen_values(kit):
    job = kit.load(cluster={"n_workers": 3, "memory_limit": "1GiB"})
    assert job.run_dir == kit.directory / "run"
    assert job.input.path == kit.directory / "docs.parquet"
    assert job.cluster == LocalWorkers(n_workers=3, memory_limit="1GiB")
    assert [step.kind for step in job.steps if isinstance(step, Query)] == ["query_model"]
    with pytest.raises(AttributeError):
        job.run_dir = "elsewhere"


@pytest.mark.parametrize(
    ("place", "changes", "meant"),
    [
        ("job.yaml", {"inputs": {}}, "input"),
        ("input", {"input": {"parket": "docs.parquet"}}, "parquet"),
        ("output", {"output": {"jsnl": "out"}}, "jsonl"),
        ("endpoints.fake", {"endpoints": {"fake": {"modle": "m"}}}, "model"),
        ("endpoints.fake", {"endpoints": {"fake": {"local": "smollm2", "slot": 2}}}, "slots"),
        ("stages[0]", {"stages": [{"query_modle": STAGE}]}, "query_model"),
        ("stages[0].query_model", {"stages": [{"query_model": {**STAGE, "promt": "x"}}]}, "prompt"),
        (
            "stages[0].query_model",
            {"stages": [{"query_model": {**STAGE, "generation": {"max_token": 1}}}]},
            "max_tokens",
        ),
        ("stages[0].query_reward_model", {"stages": [{"query_reward_model": {"message": "x"}}]}, "messages"),
        ("stages[0].filter", {"stages": [{"filter": {"colum": "text", "in": [1]}}]}, "column"),
        ("cluster", {"cluster": {"workers": 4}}, "n_workers"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_name(kit, place, changes, meant):
    try:
        job = kit.load(**changes)
        for step in job.steps:
            step.build(job.endpoints[step.endpoint])
    except JobFileError as error:
        message = str(error)
    assert place in message
    assert f"Did you mean '{meant}'?" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version: is 2: this release reads version 1"),
        ({"budget": {"max_cost_usd": -1}}, "budget: `max_cost_usd` is -1"),
        ({"run_dir": None}, "`run_dir` is missing"),
        ({"run_dir": "s3://team/run"}, "local and shared file systems only"),
        ({"input": {"parquet": "a", "jsonl": "b"}}, "exactly one of `parquet`, `jsonl`"),
        ({"input": {"parquet": "docs.parquet", "columns": "id"}}, "input.columns: is 'id': give a list"),
        ({"output": {}}, "there is none of them"),
        ({"endpoints": {}}, "give endpoints by name"),
        ({"endpoints": {"fake": {"base_url": "http://localhost:1/v1"}}}, "endpoints.fake: `model` is missing"),
        ({"endpoints": {"fake": {"model": "m", "max_attempts": "many"}}}, "`max_attempts` is 'many'"),
        ({"endpoints": {"fake": {"model": "m", "headers": ["a"]}}}, "endpoints.fake: `headers` is a list"),
        ({"stages": []}, "stages: is []"),
        ({"stages": [{"filter": {"column": "text", "in": ["x"]}}]}, "no stage asks a model"),
        (
            {"stages": [{"query_model": {**STAGE, "endpoint": "fak"}}]},
            "no endpoint 'fak' in this job. Did you mean 'fake'?",
        ),
        ({"stages": [{"query_model": {"prompt": "{text}"}}]}, "stages[0].query_model: `endpoint` is missing"),
        (
            {"stages": [{"query_model": STAGE}, {"query_model": STAGE}]},
            "`output` is 'topic', as in stages[0].query_model",
        ),
        ({"stages": [{"query_model": {**STAGE, "journal": "j"}}]}, "keeps its replies in <run_dir>/journal"),
        ({"stages": [{"query_model": {**STAGE, "choices": [True, False]}}]}, "put them in quotes"),
        ({"stages": [{"query_model": {**STAGE, "choices": [1, 2]}}]}, "put them in quotes"),
        ({"stages": [{"query_model": {**STAGE, "choices": True}}]}, "choices: is True: give a list such as [weather"),
        ({"stages": [{"query_model": {**STAGE, "endpoint": ["fake"]}}]}, "endpoint: is ['fake']: give text such as"),
        ({"stages": [{"query_model": {**STAGE, "sample_by": ["id"]}}]}, "sample_by: is ['id']: give text such as 'id'"),
        ({"cluster": {"class": "dask_jobqueue.SLURMCluster"}}, "cluster: asks for no workers"),
        ({"cluster": {"class": "os.system"}}, "cluster.class: is 'os.system': a class is imported if its path begins"),
        ({"cluster": {"class": "dask.a;b", "n_workers": 1}}, "cluster.class: is 'dask.a;b'"),
        ({"cluster": {"class": "dask_x.C", "n_workers": 1}}, "curator-llm.job.cluster-classes in your Dask config"),
        ({"cluster": {"class": "coiled.C", "kwargs": [1], "n_workers": 1}}, "cluster.kwargs: is [1]"),
        ({"cluster": {"class": "coiled.C", "memory_limit": "1GiB"}}, "cluster: unknown key 'memory_limit'"),
        ({"cluster": {"class": "coiled.C", "n_workers": 1, "kwargs": {"n_workers": 2}}}, "or twice"),
        ({"cluster": {"class": "coiled.C", "adapt": {"minimum": 3, "maximum": 2}}}, "`maximum` is 2, below"),
        ({"cluster": {"kwargs": {}}}, "cluster: unknown key 'kwargs'"),
        ({"cluster": {"scheduler_file": "s.json", "n_workers": 2}}, "leave the other keys out"),
        ({"cluster": {"scheduler": "tcp://a:1", "n_workers": 2}}, "leave the other keys out"),
        ({"cluster": {"n_workers": 0}}, "cluster.n_workers: is 0"),
        ({"cluster": {"memory_limit": "much"}}, "cluster.memory_limit: is 'much'"),
    ],
)
def test_what_cannot_work_is_refused_with_place_and_fix(kit, changes, said):
    message = refused(kit, **changes)
    assert said in message
    assert message.startswith(str(kit.directory / "job.yaml"))


def test_a_literal_key_is_refused_and_not_repeated(kit):
    message = refused(kit, endpoints={"fake": {"model": "m", "api_key": "sk-canary"}})
    assert "endpoints.fake" in message
    assert "env:NAME" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nstages: [}\n", "no YAML in line 2"),
        ("version: 1\nversion: 1\n", "the key 'version' is given twice"),
        ("prompt: Topic: {text}\n", "go in quotes"),
        ("- 1\n", "give a mapping"),
        ("version: !!python/object/apply:os.getcwd []\n", "no YAML in line 1"),
    ],
)
def test_text_that_is_no_job_file_is_refused_with_its_line(kit, text, said):
    with pytest.raises(JobFileError, match=r"job\.yaml") as caught:
        load_job(kit.write(text))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(JobFileError, match=r"no\.yaml: cannot be read: No such file"):
        load_job(tmp_path / "no.yaml")
