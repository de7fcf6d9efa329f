"""Stages on pandas frames, against a server on loopback."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from curator_llm import Endpoint, GenerationConfig, QueryModel, QueryRewardModel
from curator_llm.errors import ConfigurationError, RowsFailedError
from curator_llm.testing import FakeServer, answer_to, choice_of, faults_named_in_prompt, reward_of


def stage(server: FakeServer, prompt: str = "{text}", **arguments) -> QueryModel:
    endpoint = {"max_concurrent_requests": 32, **arguments.pop("endpoint", {})}
    return QueryModel(Endpoint("m", base_url=server.base_url, **endpoint), prompt=prompt, output="a", **arguments)


def texts(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"text": pd.array(list(values), dtype="string[pyarrow]")})


def test_every_answer_stands_on_its_own_row(server):
    df = pd.DataFrame({"n": range(1000), "text": "x"}, index=[7] * 1000)
    out = stage(server, "{text} {n}")(df)
    assert out["a"].tolist() == [answer_to(f"x {n}") for n in range(1000)]
    assert set(out["a__status"]) == {"ok"}
    assert out["a__error"].isna().all()
    pd.testing.assert_frame_equal(out[["n", "text"]], df)


def test_the_input_frame_is_left_as_it_was(server):
    df = texts("a")
    before = df.copy()
    stage(server)(df)
    pd.testing.assert_frame_equal(df, before)


def test_a_second_run_sends_nothing_and_gives_the_identical_frame(server):
    df = texts(*"abc")
    first = stage(server, details=True)(df)
    seen = server.ledger.requests
    pd.testing.assert_frame_equal(stage(server, details=True)(df), first)
    assert server.ledger.requests == seen == 3


def test_details_asked_for_later_are_free(server):
    df = texts(*"abc")
    stage(server)(df)
    out = stage(server, details=["output_tokens", "attempts", "model"])(df)
    assert server.ledger.requests == 3
    assert (out["a__output_tokens"] > 0).all()
    assert out["a__attempts"].tolist() == [1, 1, 1]
    assert set(out["a__model"]) == {"m"}


def test_without_a_journal_every_run_pays(server, own_journal):
    run = stage(server, journal=False)
    run(texts("a"))
    run(texts("a"))
    assert server.ledger.requests == 2
    assert not own_journal.exists()


def test_equal_rows_are_one_request(server):
    out = stage(server, generation={"temperature": 0})(texts(*["same"] * 50, "other"))
    assert server.ledger.requests == 2
    assert out["a"].nunique() == 2


def test_equal_rows_that_share_a_sampled_answer_are_told_of_once(server):
    run = stage(server, "{text} told of once")
    with pytest.warns(UserWarning, match="2 rows ask the same as another row .* sample_by"):
        run(texts("same", "same", "same"))
    run(texts("same", "same", "same"))


def test_sample_by_makes_equal_prompts_different_requests(server):
    df = texts("same", "same", "same").assign(draw=[1, 2, 2])
    stage(server, sample_by="draw", generation={"temperature": 0})(df)
    assert server.ledger.requests == 2


def test_a_null_input_is_skipped_and_unpaid(server):
    out = stage(server)(texts("a", None, "c"))
    assert out["a__status"].tolist() == ["ok", "skipped", "ok"]
    assert out["a"].isna().tolist() == [False, True, False]
    assert out["a__error"][1] == "null_input: a column of the prompt is null"
    assert server.ledger.requests == 2


def test_choices_come_back_as_they_were_given(server):
    choices = ["Yes", "No", "Not sure"]
    out = stage(server, choices=choices)(texts(*map(str, range(20))))
    assert out["a"].tolist() == [choice_of(str(n), choices) for n in range(20)]


def test_a_reply_that_is_no_choice_is_invalid(server):
    server.change(answer="perhaps")
    out = stage(server, choices=["yes", "no"])(texts("x"))
    assert out["a__status"].tolist() == ["invalid"]
    assert out["a"].isna().all()
    assert "'perhaps' is none of the choices" in out["a__error"][0]


def test_choices_match_after_strip_and_casefold(server):
    server.change(answer="  YES ")
    assert stage(server, choices=["yes", "no"])(texts("x"))["a"].tolist() == ["yes"]


def test_a_truncated_reply_keeps_its_text(server):
    out = stage(server, generation={"max_tokens": 1})(texts("one two three"))
    assert out["a__status"].tolist() == ["truncated"]
    assert out["a"].notna().all()


def test_a_chat_column_is_sent_as_it_stands(server):
    chat = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Why?"},
    ]
    df = pd.DataFrame({"chat": [chat, json.dumps(chat)]}, dtype=object)
    endpoint = Endpoint("m", base_url=server.base_url)
    out = QueryModel(endpoint, messages="chat", output="a", system="Be brief", generation={"temperature": 0})(df)
    assert out["a"].tolist() == [answer_to("Why?")] * 2
    assert server.ledger.bodies[0]["messages"] == [{"role": "system", "content": "Be brief"}, *chat]
    assert server.ledger.requests == 1


def test_the_body_holds_what_was_asked_for_and_nothing_else(server):
    generation = GenerationConfig(max_tokens=5, temperature=0, extra_body={"min_p": 0.1})
    stage(server, "{text}!", generation=generation, system="S", endpoint={"extra_body": {"priority": 1}})(texts("a"))
    assert server.ledger.bodies == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a!"}],
            "priority": 1,
            "max_tokens": 5,
            "temperature": 0,
            "min_p": 0.1,
        }
    ]


def test_max_tokens_is_renamed_where_the_server_asks_for_it(server):
    server.change(only_max_completion_tokens=True)
    out = stage(server, generation={"max_tokens": 50}, details=["attempts"])(texts("a", "b", "c"))
    assert set(out["a__status"]) == {"ok"}
    assert out["a__attempts"].tolist() == [1, 1, 1]
    assert server.ledger.by_status[400] == 1  # found out once
    server.change(only_max_completion_tokens=False)
    stage(server, generation={"max_tokens": 50})(texts("a", "b", "c"))
    assert server.ledger.by_status[200] == 3  # the key was made before


def test_max_completion_tokens_is_renamed_for_servers_that_know_the_older_name_alone(server):
    server.change(only_max_tokens=True)
    out = stage(server, generation={"max_completion_tokens": 50}, details=["attempts"])(texts("a", "b", "c"))
    assert set(out["a__status"]) == {"ok"}
    assert out["a__attempts"].tolist() == [1, 1, 1]
    assert server.ledger.by_status[400] == 1  # found out once


@pytest.mark.parametrize("dialect", ["logprobs", "content"])
def test_reward_scores_become_columns(server, dialect):
    server.change(reward_dialect=dialect)
    chat = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    endpoint = Endpoint("a-reward-model", base_url=server.base_url)
    out = QueryRewardModel(endpoint, messages="chat", output="r")(pd.DataFrame({"chat": [json.dumps(chat)]}))
    scores = reward_of(chat)
    assert json.loads(out["r"][0]) == pytest.approx(scores)
    assert out["r__helpfulness"][0] == pytest.approx(scores["helpfulness"])
    assert out["r__helpfulness"].dtype == "Float64"


def test_a_reward_reply_with_other_attributes_is_invalid_and_names_them(server):
    endpoint = Endpoint("a-reward-model", base_url=server.base_url)
    df = pd.DataFrame({"chat": ['[{"role": "user", "content": "x"}]']})
    out = QueryRewardModel(endpoint, messages="chat", attributes=["honesty"])(df)
    assert out["reward__status"].tolist() == ["invalid"]
    assert "helpfulness" in out["reward__error"][0]
    again = QueryRewardModel(endpoint, messages="chat")(df)  # asked for rightly, the same reply is good, and free
    assert again["reward__status"].tolist() == ["ok"]
    assert server.ledger.requests == 1


def test_a_model_without_scores_is_likely_no_reward_model(server):
    df = pd.DataFrame({"chat": ['[{"role": "user", "content": "x"}]']})
    out = QueryRewardModel(Endpoint("m", base_url=server.base_url), messages="chat")(df)
    assert out["reward__status"].tolist() == ["invalid"]
    assert "likely not a reward model" in out["reward__error"][0]
    assert out["reward__helpfulness"].isna().all()


def test_a_cell_run_again_replaces_its_columns(server):
    out = stage(server)(texts("a"))
    again = stage(server, "{text} again")(out)
    assert list(again.columns) == list(out.columns)
    assert again["a"].tolist() == [answer_to("a again")]


def test_a_column_that_is_not_the_stages_own_is_not_overwritten(server):
    with pytest.raises(ConfigurationError, match="has a column 'a' already"):
        stage(server)(texts("x").assign(a=1))


def test_on_error_raise_ends_with_what_went_wrong_after_keeping_the_rest(server):
    server.change(faults=faults_named_in_prompt)
    run = stage(server, on_error="raise")
    said = r"1 of 3 rows failed or were rejected, the first with: bad_request: [^.]*[^.]\. The replies"
    with pytest.raises(RowsFailedError, match=said):
        run(texts("a", "http:400: bad", "c"))
    stage(server)(texts("a", "c"))
    assert server.ledger.requests == 3


@pytest.mark.parametrize(("limit", "fails"), [(0.5, False), (0.2, True), (1, True), (2, False)])
def test_fail_on_error_is_a_share_or_a_count(server, limit, fails):
    server.change(faults=faults_named_in_prompt)
    df = texts("a", "http:400: bad", "c")
    if fails:
        with pytest.raises(RowsFailedError):
            stage(server, fail_on_error=limit)(df)
    else:
        assert stage(server, fail_on_error=limit)(df)["a__status"].tolist() == ["ok", "rejected", "ok"]


def test_added_columns_have_their_dtypes_whatever_the_rows(server):
    run = stage(server, details=True)
    meta = run.meta(texts())
    for df in (texts(), texts(None, None), texts("a", None)):
        assert run(df).dtypes.to_dict() == meta.dtypes.to_dict()


def test_prices_become_costs(server):
    out = stage(server, details=["cost_usd", "input_tokens", "output_tokens"], endpoint={"price_usd": (1.0, 2.0)})(
        texts("a")
    )
    expected = (out["a__input_tokens"][0] + 2 * out["a__output_tokens"][0]) / 1e6
    assert out["a__cost_usd"][0] == pytest.approx(expected)


def test_two_lines_tell_what_was_asked_and_how_it_ended(server, capsys):
    stage(server, generation={"temperature": 0})(texts("a", "a", None))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("a: 3 rows, 1 request, 0 reused from ")
    assert lines[1].startswith("a: ok 2 · skipped 1 (null_input 1) · ")


def test_a_dry_run_says_what_would_be_asked_and_sends_nothing(server):
    run = stage(server)
    run(texts("a"))
    plan = run.dry_run(texts("a", "b", None))
    assert [request.body for _, request in plan.todo] == [b'{"model":"m","messages":[{"role":"user","content":"b"}]}']
    assert server.ledger.requests == 1


def test_a_replay_gives_what_the_journal_has_and_sends_nothing(server):
    ask = stage(server, details=["attempts"])
    first = ask(texts("a", None))
    replayed = ask.replay(texts("b", "a", None))
    assert replayed["a__status"].tolist() == ["not_attempted", "ok", "skipped"]
    assert replayed["a"].tolist()[1] == answer_to("a")
    assert replayed["a__error"].tolist()[0] == "no_reply: the journal has no reply for it"
    assert replayed.dtypes.equals(first.dtypes)
    assert server.ledger.requests == 1
