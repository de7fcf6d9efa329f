"""What is known before a run: columns, outputs that lie in inputs, which stages wait for others."""

from __future__ import annotations

import pytest

from curator_llm.errors import JobFileError
from curator_llm.job.check import check_job, depends_on

TOPIC = {"query_model": {"endpoint": "fake", "prompt": "Topic of {text}", "output": "topic"}}


def test_a_sound_job_is_known_with_its_output_columns_and_nothing_is_sent(kit):
    checked = check_job(kit.load())
    assert list(checked.meta.columns) == ["id", "text", "topic", "topic__status", "topic__error"]
    assert checked.source.rows == 12
    assert kit.server.ledger.requests == 0
    assert not (kit.directory / "run").exists()


def test_a_key_that_is_not_there_is_no_matter_before_the_run(kit):
    endpoints = {"fake": {"model": "m", "api_key": "env:NO_SUCH_KEY", "base_url": kit.server.base_url}}
    assert check_job(kit.load(endpoints=endpoints)).stages


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            [{"query_model": {"endpoint": "fake", "prompt": "{txt}"}}],
            "stages[0].query_model: The stage reads column 'txt'",
        ),
        ([TOPIC, {"query_model": {"endpoint": "fake", "prompt": "{topics}"}}], "stages[1].query_model"),
        ([TOPIC, {"filter": {"column": "topic_status", "in": ["ok"]}}], "Did you mean 'topic__status'?"),
        ([{"query_model": {"endpoint": "fake", "prompt": "{text}", "output": "id"}}], "has a column 'id' already"),
        ([{"query_model": {"endpoint": "fake", "prompt": "{text} {"}}], "stages[0].query_model"),
        (
            [{"query_model": {"endpoint": "fake", "prompt": "{text}", "budget": {"max_requests": 1}}}],
            "give `budget` beside `stages`",
        ),
    ],
)
def test_a_stage_that_does_not_fit_is_refused_with_its_place(kit, stages, said):
    with pytest.raises(JobFileError) as caught:
        check_job(kit.load(stages=stages))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("docs.parquet", "docs.parquet"),
        (".", "out"),
        ("*.parquet", "out.parquet"),
        ("**/*.parquet", "out"),
        ("docs.parquet", "."),
    ],
)
def test_an_output_that_a_rerun_would_read_or_replace_is_refused(kit, read, written):
    with pytest.raises(JobFileError, match="lie in each other"):
        check_job(kit.load(input={"parquet": read}, output={"parquet": written}))


def test_an_output_beside_a_glob_is_fine(kit):
    assert check_job(kit.load(input={"parquet": "*.parquet"}, output={"parquet": "out"}))


def test_an_embedded_model_is_checked_without_starting_it(kit):
    assert check_job(kit.load(endpoints={"fake": {"local": "smollm2"}})).stages[0].spec.endpoint.name == "local:smollm2"
    with pytest.raises(
        JobFileError, match=r"endpoints\.fake: There is no embedded model 'smolm2'. Did you mean 'smollm2'"
    ):
        check_job(kit.load(endpoints={"fake": {"local": "smolm2"}}))


def test_an_embedded_model_is_refused_on_a_cluster_elsewhere(kit):
    with pytest.raises(JobFileError, match="serves this machine alone"):
        check_job(kit.load(endpoints={"fake": {"local": "smollm2"}}, cluster={"scheduler": "tcp://10.0.0.1:8786"}))


def test_stages_that_read_replies_or_rows_that_replies_chose_depend_on_them(kit):
    stages = [
        {"filter": {"column": "id", "above": 3}},
        TOPIC,
        {"query_model": {"endpoint": "fake", "prompt": "Again {topic}", "output": "again"}},
        {"query_model": {"endpoint": "fake", "prompt": "Alone {text}", "output": "alone"}},
        {"filter": {"column": "topic__status", "in": ["ok"]}},
        {"query_model": {"endpoint": "fake", "prompt": "Late {text}", "output": "late"}},
    ]
    assert depends_on(check_job(kit.load(stages=stages)).steps) == {"again": "topic", "late": "topic"}
