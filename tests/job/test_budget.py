"""A job with a budget: exit code 5, and a total over all executions."""

from __future__ import annotations

import json

import pytest

from curator_llm.errors import JobFileError
from curator_llm.job.report_text import report_text
from curator_llm.job.verify import verify_run

STAGES = [
    {"query_model": {"endpoint": "fake", "prompt": "Topic of {text}", "output": "topic"}},
    {"query_model": {"endpoint": "fake", "prompt": "Tone of {text}", "output": "tone"}},
]


def test_a_reached_budget_ends_a_job_with_5_and_an_output_that_says_which_rows_were_not_attempted(kit):
    ending = kit.run(stages=STAGES, budget={"max_requests": 15})
    assert (ending.status, ending.exit_code) == ("budget", 5)
    out = kit.output()
    answered = out[["topic__status", "tone__status"]].eq("ok").to_numpy().sum()
    assert answered == kit.server.ledger.requests == 15
    assert out[["topic__status", "tone__status"]].eq("not_attempted").to_numpy().sum() == 24 - 15
    report = json.loads((kit.directory / "run" / "report.json").read_text())
    assert (report["status"], report["exit_code"]) == ("budget", 5)
    assert report["budget"]["limits"] == {"requests": 15}
    assert report["budget"]["spent"]["requests"] == 15
    assert not (kit.directory / "run" / "_SUCCESS").exists()
    assert any("15 requests, over all executions" in line for line in kit.lines)
    text = report_text(kit.directory / "run")
    assert "budget: 15 of 15 requests spent, over all executions" in text
    assert "Raise `budget` in the job, then ask for the rest with: curator-llm run" in text
    assert verify_run(kit.directory / "run").problems == []


def test_the_same_command_asks_nothing_more_and_a_raised_budget_asks_for_the_rest(kit):
    kit.run(stages=STAGES, budget={"max_requests": 15})
    assert kit.run(stages=STAGES, budget={"max_requests": 15}).exit_code == 5
    assert kit.server.ledger.requests == 15
    assert kit.run(stages=STAGES, budget={"max_requests": 100}).exit_code == 0
    assert kit.server.ledger.requests == 24
    assert kit.output()[["topic__status", "tone__status"]].eq("ok").to_numpy().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": {"max_cost_usd": 1}}, "needs an end to each reply"),
        ({"budget": {"max_cost": 1}}, "Did you mean 'max_cost_usd'?"),
        ({"budget": {"max_requests": 0}}, "`max_requests` is 0"),
        ({"budget": {"max_requests": 1, "name": "x"}}, "name"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_with_its_place(kit, changes, said):
    with pytest.raises(JobFileError) as caught:
        kit.run(**changes)
    assert said in str(caught.value)
