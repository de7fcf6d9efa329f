"""``df.llm``: stages as methods, a preview, a comparison, a summary."""

from __future__ import annotations

import inspect
import sys
import types

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, QueryRewardModel
from curator_llm.errors import ConfigurationError, MissingColumnError
from curator_llm.services import LLMClient
from curator_llm.testing import answer_to, faults_named_in_prompt

COLUMNS = ["messages", "reply", "status", "error", "input_tokens", "output_tokens", "cost_usd"]


class Echo(LLMClient):
    """A client of the user's own."""

    def query_model(self, *, messages, model):
        return [messages[-1]["content"]]

    def query_reward_model(self, *, messages, model):
        return {}


def model(server, **arguments) -> Endpoint:
    return Endpoint("m", base_url=server.base_url, **arguments)


def texts(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"text": list(values)})


def test_a_method_gives_what_the_stage_gives(server):
    df = texts("a", "b")
    by_method = df.llm.query_model(model(server), prompt="{text}?", output="a")
    pd.testing.assert_frame_equal(by_method, QueryModel(model(server), prompt="{text}?", output="a")(df))


def test_rewards_have_a_method_too(server):
    df = pd.DataFrame({"chat": ['[{"role": "user", "content": "Why?"}]']})
    scored = df.llm.query_reward_model(Endpoint("a-reward-model", base_url=server.base_url), messages="chat")
    assert scored["reward__status"].tolist() == ["ok"]


@pytest.mark.parametrize(("method", "stage"), [("query_model", QueryModel), ("query_reward_model", QueryRewardModel)])
def test_a_method_shows_the_parameters_of_its_stage(method, stage):
    shown = inspect.signature(getattr(pd.DataFrame.llm, method))
    assert list(shown.parameters) == list(inspect.signature(stage.__init__).parameters)


def test_a_preview_asks_rows_from_everywhere_once_and_they_count_for_the_whole_run(server):
    df = texts(*map(str, range(100)))
    stage = QueryModel(model(server), prompt="Topic of {text}", system="Be brief", output="topic")
    shown = df.llm.preview(stage, n=5)
    assert shown.index.tolist() == [0, 25, 50, 74, 99]
    assert shown.columns.tolist() == COLUMNS
    assert shown["messages"].tolist()[1] == "system: Be brief\nuser: Topic of 25"
    assert shown["reply"].tolist() == [answer_to(f"Topic of {n}") for n in (0, 25, 50, 74, 99)]
    assert (shown["input_tokens"] > 0).all()
    pd.testing.assert_frame_equal(df.llm.preview(stage, n=5), shown)
    assert server.ledger.requests == 5
    stage(df)
    assert server.ledger.requests == 100


def test_a_preview_says_what_all_rows_would_cost(server, capsys):
    server.change(answer="word")
    df = texts(*["same"] * 300)
    stage = QueryModel(
        model(server, price_usd=(0, 1_000_000)), prompt="{text}", output="a", generation={"temperature": 0}
    )
    each = df.llm.preview(stage, n=3)["cost_usd"][0]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"a: preview of 3 rows: ${3 * each:.2f}; at this rate 300 rows cost ${300 * each:,.2f}"


def test_without_a_price_a_preview_speaks_of_tokens(server, capsys):
    texts("a").llm.preview(QueryModel(model(server), prompt="{text}", output="a"))
    assert "(no price known)" in capsys.readouterr().err.splitlines()[-1]


def test_a_preview_shows_rows_that_fail_whatever_the_stage_does_about_them(server):
    server.change(faults=faults_named_in_prompt)
    df = texts("http:400: bad", None, "good")
    shown = df.llm.preview(QueryModel(model(server), prompt="{text}", on_error="raise"))
    assert shown["status"].tolist() == ["rejected", "skipped", "ok"]
    assert shown["messages"].isna().tolist() == [False, True, False]


def test_a_preview_of_no_rows_is_empty(server):
    shown = texts().astype("string").llm.preview(QueryModel(model(server), prompt="{text}"))
    assert (len(shown), shown.columns.tolist()) == (0, COLUMNS)


def test_a_preview_names_a_column_that_is_not_there(server):
    with pytest.raises(MissingColumnError, match="reads column 'txt'"):
        texts("a").llm.preview(QueryModel(model(server), prompt="{txt}"))


def test_stages_are_compared_on_the_same_rows_and_changed_ones_come_first(server, capsys):
    server.change(answer=lambda prompt: "odd" if prompt in {"B 1", "B 3"} else "even")
    df = texts(*"01234").assign(other=1)
    stages = {
        "before": QueryModel(model(server), prompt="A {text}", output="topic"),
        "after": QueryModel(model(server), prompt="B {text}", output="topic"),
    }
    shown = df.llm.compare(stages)
    assert shown.columns.tolist() == ["changed", "text", "before", "before__status", "after", "after__status"]
    assert shown["changed"].tolist() == [True, True, False, False, False]
    assert shown.index.tolist() == [1, 3, 0, 2, 4]
    assert capsys.readouterr().err.splitlines()[-1] == "compare: 2 of 5 rows changed"
    df.llm.compare(stages)
    assert server.ledger.requests == 10


def test_a_reply_that_is_missing_on_one_side_is_a_change(server):
    server.change(faults=lambda prompt, _: "http:400" if prompt == "B 1" else None, answer="x")
    stages = [QueryModel(model(server), prompt=f"{name} {{text}}", output="topic") for name in "AB"]
    shown = texts("0", "1").llm.compare(stages)
    assert shown["changed"].tolist() == [True, False]
    assert shown.columns.tolist()[2::2] == ["topic 1", "topic 2"]


def test_one_stage_cannot_be_compared(server):
    with pytest.raises(ConfigurationError, match="fewer than two stages"):
        texts("a").llm.compare([QueryModel(model(server), prompt="{text}")])


def test_a_summary_counts_what_the_columns_say(server):
    server.change(faults=faults_named_in_prompt)
    df = texts("a", "http:400: b", None)
    out = df.llm.query_model(model(server, price_usd=(1e6, 0)), prompt="{text}", output="t", details=["cost_usd"])
    summary = out.llm.summary()
    assert repr(summary) == "t: ok 1 · rejected 1 · skipped 1 (bad_request 1, null_input 1) · $1.00"
    html = summary._repr_html_()
    assert ">t: 3 rows<" in html
    assert ">33.3 %<" in html


def test_a_summary_of_several_stages_asks_which_one_is_meant(server):
    df = texts("a")
    for output in ("one", "two"):
        df = df.llm.query_model(model(server), prompt="{text}", output=output)
    assert repr(df.llm.summary("two")).startswith("two: ok 1")
    with pytest.raises(ConfigurationError, match="name one of 'one', 'two'"):
        df.llm.summary()
    with pytest.raises(MissingColumnError, match="Did you mean 'two'"):
        df.llm.summary("twoo")


def test_what_a_notebook_shows_is_escaped_and_holds_no_key(server, monkeypatch):
    monkeypatch.setenv("A_KEY", "canary-9c1f")
    stage = QueryModel(model(server, api_key="env:A_KEY"), prompt="<b>{text}</b>", output="t")
    shown = stage._repr_html_()
    assert "user: &lt;b&gt;{text}&lt;/b&gt;" in shown
    assert "env:A_KEY" in shown
    assert "canary" not in shown


def test_a_summary_leaves_out_what_is_not_known(server):
    out = texts("a").llm.query_model(model(server), prompt="{text}", output="t", details=True)
    assert "$" not in repr(out.llm.summary())


def test_a_column_of_the_users_that_is_named_alike_is_no_stage(server):
    out = texts("a").assign(order__status="sent").llm.query_model(model(server), prompt="{text}", output="t")
    assert repr(out.llm.summary()).startswith("t: ok 1")
    with pytest.raises(MissingColumnError, match="no columns of a stage 'order'"):
        out.llm.summary("order")


def test_a_preview_of_a_client_that_tells_no_usage_says_so(capsys, monkeypatch):
    house = types.ModuleType("house")
    house.Echo = Echo
    monkeypatch.setitem(sys.modules, "house", house)
    endpoint = Endpoint("m", client="house:Echo", price_usd=(1, 1))
    texts("a").llm.preview(QueryModel(endpoint, prompt="{text}", output="t"))
    assert (
        capsys.readouterr().err.splitlines()[-1].endswith("how many tokens they took, and what they cost, nobody says")
    )


@pytest.mark.parametrize(
    ("names", "twice"), [(("changed", "b"), "changed"), (("text", "b"), "text"), (("a", "a__status"), "a__status")]
)
def test_names_that_are_columns_of_a_comparison_already_are_refused_before_anything_is_paid(server, names, twice):
    stages = {name: QueryModel(model(server), prompt=f"{name} {{text}}") for name in names}
    with pytest.raises(ConfigurationError, match=f"would be '{twice}'"):
        texts("a").llm.compare(stages)
    assert server.ledger.requests == 0


def test_a_column_that_one_of_several_stages_misses_is_named_before_anything_is_paid(server):
    stages = [QueryModel(model(server), prompt=prompt) for prompt in ("{text}", "{txt}")]
    with pytest.raises(MissingColumnError, match=r"'txt'.* Columns: \['text'\]"):
        texts("a").llm.compare(stages)
    assert server.ledger.requests == 0


def test_a_stage_that_reads_what_another_one_writes_is_compared_with_it(server):
    first = QueryModel(model(server), prompt="{text}", output="a")
    df = first(texts("x", "y"))
    stages = {"one": first, "two": QueryModel(model(server), prompt="{a}", output="b")}
    shown = df.llm.compare(stages)
    assert shown.columns.tolist() == ["changed", "text", "a", "one", "one__status", "two", "two__status"]


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_a_sample_has_one_row_or_more(server, n):
    with pytest.raises(ConfigurationError, match="`n` is "):
        texts("a").llm.preview(QueryModel(model(server), prompt="{text}"), n=n)


def test_what_is_no_stage_is_refused(server):
    with pytest.raises(ConfigurationError, match="is no stage"):
        texts("a").llm.preview("Topic of {text}")
