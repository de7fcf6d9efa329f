"""Bad input: a message that says what to do, and no row lost."""

from __future__ import annotations

import pandas as pd
import pytest
from dask import config

from curator_llm import Endpoint, QueryModel
from curator_llm.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointUnreachableError,
    MissingColumnError,
    ModelNotFoundError,
    PromptError,
    QuotaExceededError,
)
from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt

CANARY = "sk-CANARY-5f0c1a52e9"


def stage(server: FakeServer, prompt: str = "{text}", **arguments) -> QueryModel:
    endpoint = {"max_concurrent_requests": 8, **arguments.pop("endpoint", {})}
    return QueryModel(Endpoint("m", base_url=server.base_url, **endpoint), prompt=prompt, output="a", **arguments)


def ask(server: FakeServer, *values: object, **arguments) -> pd.DataFrame:
    return stage(server, **arguments)(pd.DataFrame({"text": pd.Series(list(values), dtype=object)}))


def test_a_missing_column_is_named_with_the_columns_there_are(server):
    with pytest.raises(MissingColumnError, match=r"reads column 'question'.*Columns: \['text'\]"):
        ask(server, "x", prompt="{question}")


def test_braces_that_are_no_column_are_shown_doubled():
    with pytest.raises(PromptError, match=r'\{\{"label": "\{\{text\}\}"\}\}'):
        QueryModel("m", prompt='{"label": "{text}"}')


def test_an_unknown_generation_parameter_is_met_with_the_nearest_one():
    with pytest.raises(ConfigurationError, match="Did you mean 'max_tokens'"):
        QueryModel("m", prompt="{text}", generation={"max_token": 3})


def test_several_replies_per_row_are_refused_with_advice():
    with pytest.raises(ConfigurationError, match="sample_by"):
        QueryModel("m", prompt="{text}", generation={"n": 2})


def test_an_empty_frame_gives_an_empty_frame_with_the_columns(server):
    out = ask(server)
    assert list(out.columns) == ["text", "a", "a__status", "a__error"]
    assert server.ledger.requests == 0


def test_an_all_null_column_is_skipped(server):
    out = ask(server, None, float("nan"), pd.NA, pd.NaT)
    assert set(out["a__status"]) == {"skipped"}
    assert server.ledger.requests == 0


def test_cells_that_are_no_text_are_written_by_rule(server):
    values = [3, 2.5, True, pd.Timestamp("2026-11-23 10:00"), [1, {"b": 2}], b"bytes"]
    out = ask(server, *values)
    written = ["3", "2.5", "True", "2026-11-23T10:00:00", '[1,{"b":2}]']
    assert out["a"].tolist()[:5] == [answer_to(text) for text in written]
    assert out["a__status"].tolist() == ["ok"] * 5 + ["rejected"]


def test_a_lone_surrogate_in_a_prompt_rejects_its_row_alone(server):
    out = ask(server, "fine", "bad \ud83d")
    assert out["a__status"].tolist() == ["ok", "rejected"]
    assert "lone surrogate" in out["a__error"][1]


def test_a_lone_surrogate_in_a_reply_is_replaced(server, tmp_path):
    server.change(faults=faults_named_in_prompt)
    out = ask(server, "surrogate: x", "bad_utf8: x", "nul: x")
    assert set(out["a__status"]) == {"ok"}
    assert "\ufffd" in out["a"][0]
    assert "\ufffd" in out["a"][1]
    out[["a"]].to_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(ask(server, "surrogate: x", "bad_utf8: x", "nul: x"), out)
    assert server.ledger.requests == 3


def test_a_prompt_of_a_megabyte_is_sent(server):
    prompt = "x" * 1_000_000
    assert ask(server, prompt)["a"].tolist() == [answer_to(prompt)]


def test_an_unreachable_server_ends_the_run_and_says_where():
    with FakeServer() as server:
        pass
    with (
        config.set({"curator-llm.engine.unreachable-after": "0.3s"}),
        pytest.raises(EndpointUnreachableError) as caught,
    ):
        ask(server, "x", "y")
    assert server.base_url in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_a_wrong_key_costs_one_request_and_names_the_reference_not_the_key(server, monkeypatch):
    server.change(api_key="right")
    monkeypatch.setenv("TEAM_KEY", CANARY)
    with pytest.raises(AuthenticationError, match="env:TEAM_KEY") as caught:
        ask(server, *map(str, range(100)), endpoint={"api_key": "env:TEAM_KEY"})
    assert CANARY not in str(caught.value)
    assert server.ledger.requests == 1


def test_a_server_that_asks_for_a_key_nobody_gave_says_how_to_give_one(server):
    server.change(api_key="right")
    with pytest.raises(AuthenticationError, match="asks for a key, and none is sent"):
        ask(server, "x")


def test_a_key_that_is_mended_is_taken_by_the_next_run(server, monkeypatch):
    server.change(api_key="right")
    monkeypatch.setenv("TEAM_KEY", "wrong-key")
    with pytest.raises(AuthenticationError):
        ask(server, "x", endpoint={"api_key": "env:TEAM_KEY"})
    monkeypatch.setenv("TEAM_KEY", "right")
    assert ask(server, "x", endpoint={"api_key": "env:TEAM_KEY"})["a__status"].tolist() == ["ok"]


def test_an_echoed_key_reaches_neither_message_nor_journal(server, own_journal, monkeypatch):
    server.change(faults=faults_named_in_prompt)
    monkeypatch.setenv("TEAM_KEY", CANARY)
    with pytest.raises(AuthenticationError) as caught:
        ask(server, "echo_key: x", endpoint={"api_key": "env:TEAM_KEY"})
    assert CANARY not in str(caught.value)
    kept = [path.read_bytes() for path in own_journal.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in data for data in kept)


def test_a_key_that_is_not_set_here_says_where_to_set_it(server):
    with pytest.raises(AuthenticationError, match=r"NOWHERE_KEY is not set on .*\. Set it on every worker"):
        ask(server, "x", endpoint={"api_key": "env:NOWHERE_KEY"})
    assert server.ledger.requests == 0


def test_an_unknown_model_costs_one_request(server):
    server.change(models=["other"])
    with pytest.raises(ModelNotFoundError, match="does not know the model 'm'"):
        ask(server, *map(str, range(100)))
    assert server.ledger.requests == 1


def test_an_account_without_quota_stops_the_run(server):
    server.change(faults=faults_named_in_prompt)
    with pytest.raises(QuotaExceededError, match="top it up"):
        ask(server, "insufficient_quota: x", "y")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("html_200", "failed", "malformed"),
        ("html_as_json", "failed", "malformed"),
        ("truncated_json", "failed", "malformed"),
        ("empty_body", "failed", "malformed"),
        ("empty_choices", "failed", "malformed"),
        ("wrong_types", "failed", "malformed"),
        ("list_body", "failed", "malformed"),
        ("deep_json", "failed", "malformed"),
        ("error_in_200", "failed", "error_in_200"),
        ("null_content", "empty", "no_content"),
        ("empty_content", "empty", "no_content"),
        ("tool_calls_only", "empty", "tool_calls_only"),
        ("refusal", "refused", "refusal"),
        ("finish_content_filter", "filtered", "content_filter"),
        ("finish_length", "truncated", "max_tokens"),
        ("context_length", "rejected", "context_length"),
        ("content_filter_400", "filtered", "content_filter"),
        ("http:422", "rejected", "bad_request"),
        ("gzip_bomb:8", "failed", "malformed"),
        ("huge_body:40", "invalid", "too_large"),
        ("short_body", "failed", "reset"),
        ("reset", "failed", "reset"),
        ("http:500", "failed", "server_error"),
    ],
)
def test_a_bad_reply_is_a_status_of_its_row_and_of_no_other(server, fault, status, code):
    server.change(faults=faults_named_in_prompt)
    out = ask(server, "before", f"{fault}: x", "after", endpoint={"max_attempts": 2})
    assert out["a__status"].tolist() == ["ok", status, "ok"]
    assert out["a__error"][1].startswith(f"{code}: ")


@pytest.mark.parametrize(
    "fault", ["no_usage", "nan_usage", "wrong_content_type", "unordered_choices", "close_after_reply"]
)
def test_an_odd_reply_that_holds_the_answer_is_good(server, fault):
    server.change(faults=faults_named_in_prompt)
    assert ask(server, f"{fault}: x")["a__status"].tolist() == ["ok"]


def test_a_fault_that_passes_costs_attempts_and_no_row(server):
    server.change(faults=faults_named_in_prompt)
    out = ask(server, "http:500@1: x", "reset@1: y", "http:429@1: z", "empty_choices@1: w", details=["attempts"])
    assert set(out["a__status"]) == {"ok"}
    assert out["a__attempts"].tolist() == [2, 2, 1, 2]  # throttled tries are counted apart


def test_rejected_rows_are_free_on_a_rerun_and_failed_ones_are_asked_again(server):
    server.change(faults=faults_named_in_prompt)
    rows = ("http:400: x", "http:500: y", "z")
    ask(server, *rows, endpoint={"max_attempts": 1})
    server.change(faults=None)
    out = ask(server, *rows, endpoint={"max_attempts": 1})
    assert out["a__status"].tolist() == ["rejected", "ok", "ok"]
    assert server.ledger.requests == 4


def test_a_redirect_is_refused_and_the_key_reaches_no_second_origin(server, monkeypatch):
    monkeypatch.setenv("TEAM_KEY", CANARY)
    with FakeServer() as other:
        server.change(faults=faults_named_in_prompt, redirect_to=other.base_url)
        with pytest.raises(EndpointUnreachableError, match="redirects"):
            ask(server, "redirect: x", endpoint={"api_key": "env:TEAM_KEY"})
        assert other.ledger.requests == 0
    assert server.ledger.headers[0]["authorization"] == f"Bearer {CANARY}"


def test_the_openai_key_goes_to_no_other_server(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    ask(server, "x")
    assert "authorization" not in server.ledger.headers[0]


def test_a_proxy_in_the_environment_is_not_used(server, monkeypatch):
    with FakeServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base_url.removesuffix("/v1"))
        assert ask(server, "x")["a__status"].tolist() == ["ok"]
        assert proxy.ledger.requests == 0
