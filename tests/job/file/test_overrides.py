"""Values of a job file set from outside, and prompts in files of their own."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curator_llm.errors import JobFileError
from curator_llm.job.file.job_file import load_job, read_job
from curator_llm.job.file.job_yaml import parse_yaml, yaml_text
from curator_llm.job.file.overrides import with_settings
from curator_llm.job.places import Place
from curator_llm.operations.base import ChatRequests

AGAIN = {"query_reward_model": {"endpoint": "fake", "messages": "chat"}}


def refused(kit, *settings: str, **changes) -> str:
    with pytest.raises(JobFileError) as caught:
        load_job(kit.write(**changes), settings)
    return str(caught.value)


def asked(job) -> ChatRequests:
    step = job.steps[0]
    return step.build(job.endpoints[step.endpoint]).spec.operation


def test_values_are_set_by_paths_of_names_and_numbers(kit):
    job = load_job(
        kit.write(),
        [
            "endpoints.fake.max_concurrent_requests=64",
            "stages.0.query_model.generation.max_tokens=8",
            "stages.topic.generation.temperature=0.5",
            "cluster.n_workers=3",
            "output={jsonl: said.jsonl}",
        ],
    )
    assert job.endpoints["fake"].max_concurrent_requests == 64
    assert asked(job).body_fields == {"temperature": 0.5, "max_tokens": 8}
    assert job.cluster.n_workers == 3
    assert (job.output.format, job.output.path.name) == ("jsonl", "said.jsonl")


def test_the_text_of_the_job_is_that_of_the_whole(kit):
    job = load_job(kit.write(), ["stages.topic.prompt=About {text}"])
    again = read_job(job.text, Place("manifest"))
    assert asked(again).messages == asked(job).messages
    assert yaml.safe_load(job.text)["stages"][0]["query_model"]["prompt"] == "About {text}"
    assert load_job(kit.write()).text == (kit.directory / "job.yaml").read_text()


@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.text("ab \n\t:#{'\"|>\x85\u2028\ufeff\r", max_size=150))
def test_every_prompt_is_read_back_as_it_is_from_the_text_of_the_job(prompt):
    assert parse_yaml(yaml_text({"prompt": prompt}), Place("manifest")) == {"prompt": prompt}


def test_a_stage_without_an_output_of_its_own_goes_by_the_usual_one():
    job = {"stages": [{"filter": {"column": "a", "is_null": True}}, AGAIN]}
    assert (
        with_settings(job, ["stages.reward.messages=turns"])["stages"][1]["query_reward_model"]["messages"] == "turns"
    )
    assert job["stages"][1] == AGAIN


def test_what_anchors_share_is_changed_in_one_place():
    job = yaml.safe_load("a: &shared {n: 1}\nb: *shared")
    assert with_settings(job, ["a.n=2"]) == {"a": {"n": 2}, "b": {"n": 1}}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("endpoints.fake", "--set endpoints.fake: give path=value"),
        ("=3", "--set : give path=value"),
        ("stages.4.query_model.prompt=x", "--set stages.4.query_model.prompt: there is no '4' in a list of 1"),
        ("stages.topics.prompt=x", "there is no 'topics'"),
        ("run_dir.name=x", "leads into 'run', which has no parts"),
        ("endpoints.fake.headers=[", "no YAML in line 1"),
        ("endpoints.fake.max_concurent_requests=3", "Did you mean 'max_concurrent_requests'?"),
        ("endpoint.fake.model=x", "unknown key 'endpoint'. Did you mean 'endpoints'?"),
        ("stages.topic.promt=x", "stages[0].query_model: unknown key 'promt'. Did you mean 'prompt'?"),
        ("stages.topic.prompt={text}", "stages[0].query_model.prompt: is {'text': None}: give text such as"),
        ("run_dir=null", "`run_dir` is missing"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused_with_its_place(kit, setting, said):
    assert said in refused(kit, setting)


@pytest.mark.parametrize("text", ["Tag {text} as #sport or #news", "# hello {text}", "Tag\n{text}"])
def test_a_text_that_yaml_would_cut_or_join_is_refused(kit, text):
    message = refused(kit, f"stages.topic.prompt={text}")
    assert "--set stages.topic.prompt: YAML would cut it at ` #`, or join its lines: put it in double quotes" in message


def test_a_text_in_quotes_is_set_as_it_is_and_a_comment_behind_a_number_is_one(kit):
    quoted = ['stages.topic.prompt="Tag #sport:\\n{text}" # why', "stages.topic.generation.max_tokens=8 # few"]
    assert load_job(kit.write(), quoted).steps[0].arguments["prompt"] == "Tag #sport:\n{text}"
    assert load_job(kit.write(), ["stages.topic.system=~"]).steps[0].arguments["system"] is None


def test_a_literal_key_is_refused_and_not_repeated(kit):
    message = refused(kit, "endpoints.fake.api_key=sk-canary")
    assert "env:NAME" in message
    assert "canary" not in message


def test_settings_of_a_text_that_is_no_mapping_are_refused_like_the_text(kit):
    kit.write("- 1\n")
    with pytest.raises(JobFileError, match="give a mapping"):
        load_job("job.yaml", ["a=1"])


def test_a_prompt_stands_in_a_file_and_its_text_in_the_job(kit):
    (kit.directory / "topic.txt").write_text("Topic of ä\r\n{text}?\n", encoding="utf-8")
    (kit.directory / "system.txt").write_text("Be brief.\n")
    query = {"endpoint": "fake", "prompt_file": "topic.txt", "system_file": "system.txt", "output": "topic"}
    job = kit.load(stages=[{"query_model": query}])
    assert [job.steps[0].arguments[name] for name in ("prompt", "system")] == ["Topic of ä\n{text}?", "Be brief."]
    assert "prompt_file" not in job.text
    assert asked(read_job(job.text, Place("manifest"))).messages == asked(job).messages


def test_a_prompt_that_is_set_takes_the_place_of_its_file_and_the_other_way_round(kit):
    (kit.directory / "topic.txt").write_text("From a file: {text}")
    file = {"query_model": {"endpoint": "fake", "prompt_file": "topic.txt", "output": "topic"}}
    text = {"query_model": {"endpoint": "fake", "prompt": "{text}", "output": "topic"}}
    given = load_job(kit.write(stages=[file]), ["stages.topic.prompt=Set {text}"])
    assert given.steps[0].arguments["prompt"] == "Set {text}"
    given = load_job(kit.write(stages=[text]), ["stages.topic.prompt_file=topic.txt"])
    assert given.steps[0].arguments["prompt"] == "From a file: {text}"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"prompt_file": "no.txt"}, "stages[0].query_model.prompt_file: "),
        ({"prompt_file": "no.txt"}, "no.txt cannot be read: No such file"),
        ({"prompt_file": "latin.txt"}, "it is not UTF-8 text"),
        ({"prompt_file": 3}, "is 3: give text"),
        ({"prompt_file": "a.txt", "prompt": "{text}"}, "`prompt` and `prompt_file` are both given"),
        ({"system_file": "a.txt", "system": "x", "prompt": "{text}"}, "`system` and `system_file` are both given"),
    ],
)
def test_a_prompt_file_that_does_not_work_is_refused_with_its_place(kit, query, said):
    (kit.directory / "latin.txt").write_bytes(b"\xe4{text}")
    assert said in refused(kit, stages=[{"query_model": {"endpoint": "fake", **query}}])
