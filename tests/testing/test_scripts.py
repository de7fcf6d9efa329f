"""The scripts are pure: they tell what each attempt of a prompt meets, before and after it does."""

import pytest

from curator_llm.testing import FakeServer, faults_named_in_prompt, long_tailed, seeded_faults

PROMPTS = [f"prompt {i}" for i in range(500)]


def test_the_same_seed_gives_the_same_faults():
    kinds = ["http:500", "reset", "hang"]
    one, two, other = seeded_faults(kinds, 0.3, 1), seeded_faults(kinds, 0.3, 1), seeded_faults(kinds, 0.3, 2)
    assert [one(p, 1) for p in PROMPTS] == [two(p, 1) for p in PROMPTS]
    assert [one(p, 1) for p in PROMPTS] != [other(p, 1) for p in PROMPTS]


def test_attempts_of_a_prompt_fail_independently():
    script = seeded_faults(["reset"], 0.5)
    assert {(script(p, 1), script(p, 2)) for p in PROMPTS} == {(a, b) for a in (None, "reset") for b in (None, "reset")}


def test_every_kind_is_met():
    kinds = ["http:500", "reset", "hang", "html_200"]
    assert {seeded_faults(kinds, 1.0)(p, 1) for p in PROMPTS} == set(kinds)


def test_attempts_after_the_last_unlucky_one_are_spared():
    script = seeded_faults(["reset"], 1.0, attempts=2)
    assert [script("p", attempt) for attempt in (1, 2, 3)] == ["reset", "reset", None]


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'truncated_json'"):
        seeded_faults(["truncated_jsn"], 0.1)


@pytest.mark.parametrize(("kinds", "rate"), [([], 0.1), (["reset"], 1.1), (["reset"], -0.1)])
def test_a_rate_that_is_no_share_is_refused(kinds, rate):
    with pytest.raises(ValueError, match="at least one kind and a rate from 0 to 1"):
        seeded_faults(kinds, rate)


@pytest.mark.parametrize(
    ("prompt", "attempt", "fault"),
    [
        ("reset: row 1", 1, "reset"),
        ("reset: row 1", 9, "reset"),
        ("reset@1: row 1", 1, "reset"),
        ("reset@1: row 1", 2, None),
        ("http:503@2-3: row 1", 1, None),
        ("http:503@2-3: row 1", 3, "http:503"),
        ("retry_after:-5: row 1", 1, "retry_after:-5"),
        ("Summarise this: reset: row 1", 1, "reset"),
        ("Summarise:\nnull_content: row 1", 1, "null_content"),
        ("unknown: row 1", 1, None),
        ("my reset:ting", 1, None),
        ("", 1, None),
    ],
)
def test_a_prompt_names_its_fault(prompt, attempt, fault):
    assert faults_named_in_prompt(prompt, attempt) == fault


def test_the_server_counts_the_attempts_of_each_prompt(ask):
    with FakeServer(faults=faults_named_in_prompt) as server:
        assert [ask(server, "http:500@1-2: a").http for _ in range(3)] == [500, 500, 200]
        assert ask(server, "http:500@1: b").http == 500
        assert [seen.attempt for seen in server.ledger.seen] == [1, 2, 3, 1]
        assert server.ledger.by_fault == {"http:500": 3}


def test_an_oracle_knows_what_each_attempt_met(ask):
    script = seeded_faults(["http:500", "http:429", "null_content"], 0.5, seed=4)
    with FakeServer(faults=script) as server:
        for prompt in PROMPTS[:20]:
            ask(server, prompt)
            ask(server, prompt)
        assert all(seen.fault == script(seen.prompt, seen.attempt) for seen in server.ledger.seen)


def test_long_tailed_latencies_do_not_depend_on_the_attempt():
    wait_s = long_tailed(0.1, seed=1)
    assert [wait_s(p, 1) for p in PROMPTS] == [wait_s(p, 2) for p in PROMPTS]
    assert [wait_s(p, 1) for p in PROMPTS] != [long_tailed(0.1, seed=2)(p, 1) for p in PROMPTS]


def test_long_tailed_latencies_end_at_the_cap():
    assert max(long_tailed(0.1, longest_s=0.3)(p, 1) for p in PROMPTS) == 0.3


def test_latency_may_depend_on_prompt_and_attempt(ask):
    asked = []
    with FakeServer(latency=lambda prompt, attempt: asked.append((prompt, attempt)) or 0.0) as server:
        ask(server, "p")
        ask(server, "p")
    assert asked == [("p", 1), ("p", 2)]
