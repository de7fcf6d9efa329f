"""Rows asked anew: which ones, at what price, and what later runs make of them."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from curator_llm.errors import ConfigurationError, JobFileError
from curator_llm.job.again import drop_retry, kept_job, retry_of
from curator_llm.job.check import check_job
from curator_llm.job.dry_run import dry_run
from curator_llm.job.retries import Retry, check_statuses
from curator_llm.job.run import retries_of, run_job
from curator_llm.testing import faults_named_in_prompt

#: Truncated when its answer may have 4 tokens.
LONG = "a text of many words, so that its answer has many, too"


def prompt(stage: str = "topic", *, temperature: int = 0, **more) -> dict:
    generation = {"temperature": temperature, "max_tokens": 8}
    query = {"endpoint": "fake", "prompt": "Topic of {text}", "output": stage, "generation": generation, **more}
    return {"query_model": query}


def answer(prompt: str, body: dict) -> str:
    """Answer in as many words as the prompt has."""
    return " ".join(["word"] * len(prompt.split()))


@pytest.fixture
def rows(kit):
    """Rows 0 to 2 are short, 3 is long, 4 is refused by the server, 5 is null."""
    texts = ["a", "b", "c", LONG, "http:400: d", None]
    pd.DataFrame({"id": range(6), "text": pd.array(texts, dtype="string[pyarrow]")}).to_parquet("docs.parquet")
    kit.server.change(answer=answer, faults=faults_named_in_prompt)
    return kit


def retry(kit, *statuses: str, settings=(), stage=None):
    """Ask rows anew as the command does."""
    kit.lines.clear()
    with kept_job(kit.directory / "run") as job:
        wanted = retry_of(job, stage, statuses, settings)
        return run_job(job, say=kit.lines.append, processes=False, retry=wanted)


def statuses(kit, stage: str = "topic") -> list[str]:
    return kit.output()[f"{stage}__status"].tolist()


def manifest(kit) -> dict:
    return json.loads((kit.directory / "run" / "manifest.json").read_text())


def asked(kit, act) -> list[str]:
    """Return the prompts that are asked meanwhile."""
    kit.server.reset()
    act()
    return [seen.prompt for seen in kit.server.ledger.seen]


def test_rows_that_ended_so_are_asked_anew_and_all_others_are_kept(rows):
    rows.run(stages=[prompt()])
    before = rows.output()
    assert statuses(rows) == ["ok", "ok", "ok", "truncated", "rejected", "skipped"]
    assert asked(rows, lambda: retry(rows, "truncated", settings=["generation.max_tokens=100"])) == [f"Topic of {LONG}"]
    after = rows.output()
    assert statuses(rows) == ["ok", "ok", "ok", "ok", "rejected", "skipped"]
    assert after["topic"].tolist()[3] == answer(f"Topic of {LONG}", {})
    pd.testing.assert_frame_equal(after.drop(index=3), before.drop(index=3))
    assert after.dtypes.equals(before.dtypes)
    assert "truncated asked anew" in rows.lines[0]


def test_every_later_run_gives_the_merged_answers_and_pays_nothing_for_them(rows):
    rows.run(stages=[prompt()])
    retry(rows, "truncated", settings=["generation.max_tokens=100"])
    merged = rows.output()
    assert asked(rows, lambda: rows.run(stages=[prompt()])) == []
    pd.testing.assert_frame_equal(rows.output(), merged)
    assert manifest(rows)["retries"] == [
        {
            "stage": "topic",
            "statuses": ["truncated"],
            "set": ["generation.max_tokens=100"],
            "draw": 1,
            "done": True,
        }
    ]


def test_a_retry_without_changes_is_another_draw_and_its_answer_counts(rows):
    rows.run(stages=[prompt()])
    rows.server.change(faults=None)
    assert asked(rows, lambda: retry(rows, "rejected")) == ["Topic of http:400: d"]
    assert statuses(rows)[4] == "ok"
    assert asked(rows, lambda: retry(rows, "rejected")) == []


def test_a_retry_keeps_what_its_prompt_file_held(rows, tmp_path):
    rows.run(stages=[prompt()])
    file = tmp_path / "prompt.txt"
    file.write_text("Only the word: {text}\n")
    retry(rows, "truncated", settings=[f"prompt_file={file}", "generation.max_tokens=100"])
    merged = rows.output()
    assert merged["topic"][3] == answer(f"Only the word: {LONG}", {})
    file.unlink()
    assert asked(rows, lambda: rows.run(stages=[prompt()])) == []
    pd.testing.assert_frame_equal(rows.output(), merged)


def test_retries_follow_each_other_and_several_statuses_go_together(rows):
    rows.run(stages=[prompt()])
    assert len(asked(rows, lambda: retry(rows, "truncated", "rejected"))) == 2
    assert statuses(rows)[3:5] == ["truncated", "rejected"]
    assert asked(rows, lambda: retry(rows, "truncated", settings=["generation.max_tokens=100"])) == [f"Topic of {LONG}"]
    assert statuses(rows)[3:5] == ["ok", "rejected"]
    assert [said["draw"] for said in manifest(rows)["retries"]] == [1, 2]
    assert asked(rows, lambda: rows.run(stages=[prompt()])) == []


def test_rows_that_were_never_asked_do_not_take_the_answer_of_a_retry(rows):
    frame = pd.DataFrame({"text": [LONG, "b", "c"], "hint": ["h", "h", None]})
    frame.to_parquet("docs.parquet")
    rows.run(stages=[prompt()], limit=1)
    retry(rows, "truncated", settings=["prompt=Only {hint}"])
    assert asked(rows, lambda: rows.run(stages=[prompt()])) == ["Topic of b", "Topic of c"]
    assert rows.output()["topic"].tolist() == [answer(text, {}) for text in ("Only h", "Topic of b", "Topic of c")]


def test_a_retry_of_failed_rows_that_reads_less_does_not_answer_rows_that_were_never_asked(rows):
    pd.DataFrame({"text": ["a", "b"], "hint": ["h", "h"]}).to_parquet("docs.parquet")
    endpoints = {"fake": {**rows.given["endpoints"]["fake"], "max_attempts": 1}}
    rows.server.change(faults=lambda prompt, _: "http:500" if prompt == "Topic of a" else None)
    rows.run(stages=[prompt()], endpoints=endpoints, limit=1)
    retry(rows, "failed", settings=["prompt=Only {hint}"])
    rows.run(stages=[prompt()], endpoints=endpoints)
    assert rows.output()["topic"].tolist() == [answer("Only h", {}), answer("Topic of b", {})]


def test_a_retry_that_is_rejected_or_skipped_leaves_the_answer_before_it(rows):
    frame = pd.DataFrame({"text": [LONG, f"{LONG} b"], "hint": ["http:400: z", None]})
    frame.to_parquet("docs.parquet")
    rows.run(stages=[prompt()])
    before = rows.output()
    retry(rows, "truncated", settings=['prompt="{hint} Topic of {text}"'])
    assert statuses(rows) == ["truncated"] * 2
    pd.testing.assert_frame_equal(rows.output(), before)


def test_a_retry_that_stopped_says_so_and_another_one_takes_its_place(rows):
    endpoints = {"fake": rows.given["endpoints"]["fake"], "typo": {"model": "typo", "base_url": rows.server.base_url}}
    rows.run(stages=[prompt()], endpoints=endpoints)
    rows.server.change(models=["m"])
    stopped = retry(rows, "truncated", settings=["endpoint=typo"])
    assert stopped.exit_code == 3
    assert "This is retry 1 of topic: until it is done another retry takes its place, and once" in stopped.message
    assert retry(rows, "truncated", settings=["generation.max_tokens=100"]).exit_code == 0
    assert [said["set"] for said in manifest(rows)["retries"]] == [["generation.max_tokens=100"]]
    assert statuses(rows)[3] == "ok"


def test_the_last_retry_can_be_taken_back(rows):
    rows.run(stages=[prompt(), prompt("again")])
    before = rows.output()
    retry(rows, "truncated", stage="topic", settings=["generation.max_tokens=100"])
    retry(rows, "rejected", stage="again")
    run_dir = rows.directory / "run"
    assert drop_retry(run_dir, "topic") == (
        "Took back retry 1 of topic (truncated asked anew with generation.max_tokens=100). Its replies are kept; the "
        "next run gives the answers without it."
    )
    assert drop_retry(run_dir, None).startswith("Took back retry 1 of again (rejected asked anew).")
    assert asked(rows, lambda: rows.run(stages=[prompt(), prompt("again")])) == []
    pd.testing.assert_frame_equal(rows.output(), before)
    with pytest.raises(ConfigurationError, match="has no retry"):
        drop_retry(run_dir, None)


def test_a_row_that_failed_and_was_answered_by_a_retry_is_not_asked_again(rows):
    rows.server.change(faults=lambda prompt, _: "http:500" if prompt == "Topic of a" else None)
    endpoints = {"fake": {**rows.given["endpoints"]["fake"], "max_attempts": 1}}
    rows.run(stages=[prompt()], endpoints=endpoints)
    assert statuses(rows)[0] == "failed"
    rows.server.change(faults=lambda prompt, _: None if "kindly" in prompt else "http:500")
    assert asked(rows, lambda: retry(rows, "failed", settings=["prompt=Topic of {text}, kindly"])) == [
        "Topic of a",
        "Topic of a, kindly",
    ]
    assert statuses(rows)[0] == "ok"
    assert asked(rows, lambda: rows.run(stages=[prompt()], endpoints=endpoints)) == []
    assert rows.output()["topic"].tolist()[0] == answer("Topic of a, kindly", {})


def test_a_retry_that_fails_leaves_the_answer_before_it(rows):
    rows.run(stages=[prompt()], endpoints={"fake": {**rows.given["endpoints"]["fake"], "max_attempts": 1}})
    before = rows.output()
    rows.server.change(faults=lambda _, __: "http:500")
    assert len(asked(rows, lambda: retry(rows, "truncated"))) == 1
    pd.testing.assert_frame_equal(rows.output(), before)


def test_a_retry_may_ask_another_endpoint_and_costs_what_that_one_takes(rows):
    fake = rows.given["endpoints"]["fake"]
    endpoints = {"fake": {**fake, "price_usd": [1, 1]}, "other": {**fake, "model": "n", "price_usd": [1000, 1000]}}
    rows.run(stages=[prompt()], endpoints=endpoints)
    rows.server.reset()
    retry(rows, "truncated", settings=["endpoint=other", "generation.max_tokens=100"])
    ledger = rows.server.ledger
    assert [seen.body["model"] for seen in ledger.seen] == ["n"]
    report = json.loads((rows.directory / "run" / "report.json").read_text())
    stage = report["stages"][0]
    assert stage["requests"] == 1
    assert stage["cost_usd"] == pytest.approx((ledger.input_tokens + ledger.output_tokens) / 1000)
    assert report["retries"][0]["set"] == ["endpoint=other", "generation.max_tokens=100"]


def test_a_bill_without_a_price_for_all_that_was_asked_is_none(rows):
    fake = rows.given["endpoints"]["fake"]
    rows.run(stages=[prompt()], endpoints={"fake": {**fake, "price_usd": [1, 1]}, "other": fake})
    report = rows.directory / "run" / "report.json"
    assert json.loads(report.read_text())["stages"][0]["cost_usd"] > 0
    retry(rows, "truncated", settings=["endpoint=other"])
    stage = json.loads(report.read_text())["stages"][0]
    assert (stage["requests"], stage["cost_usd"]) == (1, None)


def test_stages_behind_a_retried_one_are_asked_about_the_new_answers(rows):
    again = prompt("again", prompt="Again {topic}")
    rows.run(stages=[prompt(), again])
    prompts = asked(rows, lambda: retry(rows, "truncated", settings=["generation.max_tokens=100"], stage="topic"))
    assert prompts == [f"Topic of {LONG}", f"Again {answer(f'Topic of {LONG}', {})}"]


def test_equal_rows_share_a_retry_and_rows_of_equal_index_are_not_mixed_up(rows):
    frame = pd.DataFrame({"id": [0, 1, 2], "text": [LONG, "a", LONG]})
    frame.to_parquet("docs.parquet")
    rows.run(stages=[prompt()])
    assert len(asked(rows, lambda: retry(rows, "truncated", settings=["generation.max_tokens=100"]))) == 1
    assert statuses(rows) == ["ok"] * 3
    assert rows.output()["topic"].tolist()[1] == answer("Topic of a", {})


def test_an_interrupted_retry_is_continued_by_the_same_command(rows, monkeypatch):
    rows.run(stages=[prompt()])

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("curator_llm.job.driver.make_output", interrupt)
        assert retry(rows, "truncated", settings=["generation.max_tokens=100"]).exit_code == 75
    assert manifest(rows)["retries"][0]["done"] is False
    assert retry(rows, "truncated", settings=["generation.max_tokens=100"]).exit_code == 0
    assert len(manifest(rows)["retries"]) == 1
    assert statuses(rows)[3] == "ok"


def test_a_retry_asks_the_rows_of_the_run_before_from_wherever_it_is_called(rows, monkeypatch):
    rows.run(stages=[prompt()], limit=4)
    (rows.directory / "elsewhere").mkdir()
    monkeypatch.chdir(rows.directory / "elsewhere")
    assert retry(rows, "truncated", settings=["generation.max_tokens=100"]).exit_code == 0
    assert statuses(rows) == ["ok"] * 4


def test_a_dry_run_of_a_retry_counts_what_would_be_asked(rows):
    rows.run(stages=[prompt()])
    lines: list[str] = []
    with kept_job(rows.directory / "run") as job:
        retries = retries_of(job, Retry("topic", ("truncated",), ("generation.max_tokens=100",), 0))
        dry_run(check_job(job, retries), lines.append)
    assert lines[0].startswith("topic: 6 rows, 1 request, 4 reused")
    assert manifest(rows)["retries"] == []


def test_a_retry_whose_stage_is_gone_is_left_out(rows):
    rows.run(stages=[prompt()])
    retry(rows, "truncated")
    assert rows.run(stages=[prompt("other")], changed=True).exit_code == 0
    assert manifest(rows)["retries"][0]["stage"] == "topic"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["promt=x"], "unknown key 'promt'. Did you mean 'prompt'?"),
        (["endpoint=fak"], "no endpoint 'fak' in this job. Did you mean 'fake'?"),
        (["output=other"], "a retry with output=other would add other columns"),
        (["details=[attempts]"], "would add other columns"),
        (["prompt=About {txt}"], "stages[0].query_model: The stage reads column 'txt'"),
    ],
)
def test_a_retry_that_cannot_work_is_refused_and_not_remembered(rows, settings, said):
    rows.run(stages=[prompt()])
    with pytest.raises(JobFileError) as caught:
        retry(rows, "truncated", settings=settings)
    assert said in str(caught.value)
    assert manifest(rows)["retries"] == []


def test_a_stage_must_be_there_and_be_named_where_there_are_several(rows):
    rows.run(stages=[prompt(), prompt("again")])
    with pytest.raises(ConfigurationError, match="--stage topic or --stage again"):
        retry(rows, "truncated")
    with pytest.raises(ConfigurationError, match=r"no stage 'topics'\. Did you mean 'topic'"):
        retry(rows, "truncated", stage="topics")


def test_only_rows_with_an_outcome_are_retried():
    check_statuses(["ok", "failed"])
    with pytest.raises(ConfigurationError, match=r"'truncatd' cannot be retried\. Did you mean 'truncated'"):
        check_statuses(["truncatd"])
    with pytest.raises(ConfigurationError, match="'skipped' cannot be retried"):
        check_statuses(["skipped"])


def test_a_directory_without_a_run_cannot_be_retried(kit):
    with pytest.raises(ConfigurationError, match="is no run directory"):
        retry(kit, "truncated")
