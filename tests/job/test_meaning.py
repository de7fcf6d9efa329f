"""A run directory keeps to its job: another one is refused, with each field that differs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fsspec
import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.job.file.job_file import load_job
from curator_llm.job.meaning import differences, meaning
from curator_llm.job.retries import Retry
from curator_llm.job.run import run_job

STAGE = {"endpoint": "fake", "prompt": "Topic of {text}", "output": "topic", "generation": {"temperature": 0}}


def stages(**changes):
    return [{"query_model": {**STAGE, **changes}}]


def listing(directory: Path) -> dict[str, tuple[int, str]]:
    """Return time of change and checksum of everything below a directory."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(directory.rglob("*"))
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"stages": stages(prompt="Topic: {text}")},
            "stages.0.query_model.prompt: 'Topic of {text}' -> 'Topic: {text}'",
        ),
        ({"stages": stages(system="Be brief.")}, "stages.0.query_model.system: nothing -> 'Be brief.'"),
        ({"stages": stages(output="theme")}, "stages.0.query_model.output: 'topic' -> 'theme'"),
        ({"stages": stages(generation={"temperature": 1})}, "stages.0.query_model.generation.temperature: 0 -> 1"),
        ({"stages": stages(choices=["a", "b"])}, "stages.0.query_model.choices: nothing -> ['a', 'b']"),
        (
            {"stages": [*stages(), {"filter": {"column": "topic__status", "in": ["ok"]}}]},
            "stages.1.filter.in: nothing -> ['ok']",
        ),
        ({"input": {"parquet": "docs.parquet", "columns": ["text"]}}, "input.columns: nothing -> ['text']"),
        ({"input": {"jsonl": "docs.jsonl"}}, "input.parquet: 'docs.parquet' -> nothing"),
        ({"output": {"parquet": "other"}}, "output.parquet: 'out' -> 'other'"),
        ({"model": "n"}, "endpoints.fake.model: 'm' -> 'n'"),
        ({"revision": "2"}, "endpoints.fake.revision: nothing -> '2'"),
        ({"name": "vllm"}, "endpoints.fake.name: nothing -> 'vllm'"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "-> 'http://127.0.0.1:9/v1'"),
        ({"headers": {"x-team": "a"}}, "endpoints.fake.headers.x-team: nothing -> 'a'"),
        ({"extra_body": {"service_tier": "flex"}}, "endpoints.fake.extra_body.service_tier: nothing -> 'flex'"),
    ],
)
def test_a_field_that_decides_the_answers_or_where_they_go_is_a_difference(kit, changes, line):
    before = meaning(kit.load())
    if not changes.keys() & {"stages", "input", "output"}:
        changes = {"endpoints": {"fake": {**kit.given["endpoints"]["fake"], **changes}}}
    assert any(line in found for found in differences(before, meaning(kit.load(**changes))))


def test_a_job_that_means_something_else_is_refused_and_nothing_is_touched(kit):
    kit.run()
    other = {"stages": stages(prompt="On: {text}"), "output": {"parquet": "other"}}
    kit.write(**other)
    before, requests = listing(kit.directory), kit.server.ledger.requests
    with pytest.raises(ConfigurationError) as refused:
        run_job(load_job("job.yaml"), say=kit.lines.append, processes=False)
    assert str(refused.value).splitlines() == [
        f"job.yaml is not the job that was run in {kit.directory / 'run'}:",
        "  output.parquet: 'out' -> 'other'",
        "  stages.0.query_model.prompt: 'Topic of {text}' -> 'On: {text}'",
        (
            "Nothing was touched. Name another run_dir; or run it with --changed: the directory is the new job's then, "
            "and replies to equal requests are used again."
        ),
    ]
    assert listing(kit.directory) == before
    assert kit.server.ledger.requests == requests


def test_what_does_not_change_answers_goes_on_and_pays_nothing(kit):
    kit.run()
    fake = {
        **kit.given["endpoints"]["fake"],
        "api_key": "EMPTY",
        "max_concurrent_requests": 3,
        "max_attempts": 2,
        "timeout": "5min",
        "row_deadline": "2h",
        "price_usd": [1, 2],
    }
    stage = {"output": "topic", "generation": {"temperature": 0, "top_p": None}, "system": None}
    stage |= {"on_error": "column", "fail_on_error": 0.5, "details": ["attempts"]}
    other = {"endpoints": {"spare": {"model": "x"}, "fake": fake}, "cluster": {"n_workers": 2}}
    assert kit.run(limit=6, stages=stages(**stage), **other).exit_code == 0
    assert kit.run(stages=stages(**stage), **other).exit_code == 0
    assert kit.server.ledger.requests == 12


def test_the_options_of_a_store_and_a_delimiter_that_is_the_default_are_no_difference(kit, bucket):
    kit.server.change(answer="x")
    with fsspec.open(f"{bucket.url}/docs.csv", "w") as file:
        file.write("text\na\nb\n")
    for more in ({}, {"storage_options": {"asynchronous": False}}, {"delimiter": ","}):
        assert kit.run(input={"csv": f"{bucket.url}/docs.csv", **more}).exit_code == 0
    with pytest.raises(ConfigurationError, match=r"input\.delimiter: nothing -> ';'"):
        kit.run(input={"csv": f"{bucket.url}/docs.csv", "delimiter": ";"})


def test_comments_and_another_order_are_the_same_job(kit):
    kit.run()
    job = kit.write(**dict(reversed(kit.given.items())))
    job.write_text("# a comment\n" + job.read_text())
    assert kit.run(**dict(reversed(kit.given.items()))).exit_code == 0
    assert kit.server.ledger.requests == 12


def test_the_address_of_a_named_endpoint_and_further_replicas_may_change(kit):
    url = kit.server.base_url
    for name, addresses in (("vllm", [url, [url.replace("127.0.0.1", "localhost")]]), (None, [url, [url, url + "/x"]])):
        for address in addresses:
            endpoints = {"fake": {"model": "m", "base_url": address, **({"name": name} if name else {})}}
            assert kit.run(run_dir=f"run-{name}", output={"parquet": f"out-{name}"}, endpoints=endpoints).exit_code == 0
    assert kit.server.ledger.requests == 24


def test_a_job_that_is_taken_as_changed_asks_what_is_new_and_the_directory_is_its_own_then(kit):
    kit.run(limit=6)
    other = {"stages": stages(prompt="{text}?")}
    kit.run(limit=6, changed=True, **other)
    kit.run(limit=6, changed=True)
    assert kit.server.ledger.requests == 12
    with pytest.raises(ConfigurationError, match="is not the job that was run in"):
        kit.run(**other)
    assert kit.run().exit_code == 0
    assert kit.server.ledger.requests == 18


def test_a_job_whose_first_run_paid_for_nothing_may_be_mended(kit):
    kit.server.change(models=["m"])
    typo = {"fake": {"model": "n", "base_url": kit.server.base_url}}
    assert kit.run(endpoints=typo).exit_code == 3
    assert kit.run().exit_code == 0


def test_a_retry_goes_on_with_the_job_that_was_run_and_the_job_with_the_retry(kit):
    kit.run()
    assert kit.run(retry=Retry("topic", ("ok",), ("prompt=Anew {text}",))).exit_code == 0
    assert kit.run().exit_code == 0
    assert kit.server.ledger.requests == 24


def test_a_long_text_is_shown_where_it_differs():
    before, now = ({"stages.0.query_model.prompt": "a" * 5_000 + end + "z" * 5_000} for end in ("one", "two"))
    (line,) = differences(before, now)
    assert len(line) < 450
    assert "one" in line.partition(" -> ")[0]
    assert "two" in line.partition(" -> ")[2]
