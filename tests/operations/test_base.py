"""What all operations share: requests in bulk, and the columns that records become."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.journal.record import decode, encode
from curator_llm.operations.base import DETAILS, Operation, check_details
from curator_llm.operations.chat import Chat
from curator_llm.operations.reward import Reward
from curator_llm.prompt.messages import ChatColumn, TemplatedMessages
from curator_llm.wire.exchange import Fault, Record, Reply, Request, Skip

Make = Callable[..., Record]
Write = Callable[..., bytes]

DTYPES = {"string[pyarrow]", "Int64", "Float64", "boolean"}


def chat(**changes: Any) -> Chat:
    messages = TemplatedMessages.of([{"role": "user", "content": "{text}"}])
    return Chat(**{"model": "m", "identity": "a", "messages": messages, "body_fields": {}, "output": "o", **changes})


def reward(**changes: Any) -> Reward:
    messages = ChatColumn("chat")
    return Reward(**{"model": "m", "identity": "a", "messages": messages, "body_fields": {}, "output": "o", **changes})


# --- requests ---------------------------------------------------------------------------------------------------------
def test_each_row_has_a_request_or_says_why_not() -> None:
    requests = chat().requests({"text": ["a", None, b"b", "\ud83d", "c"]}, 5)
    assert [getattr(request, "code", None) for request in requests] == [
        None,
        "null_input",
        "bad_cell",
        "bad_text",
        None,
    ]
    assert [json.loads(requests[row].body)["messages"][0]["content"] for row in (0, 4)] == ["a", "c"]  # type: ignore[union-attr]


def test_equal_rows_have_equal_keys() -> None:
    keys = [request.key for request in chat().requests({"text": ["a", "b", "a"]}, 3) if isinstance(request, Request)]
    assert keys[0] == keys[2] != keys[1]


def test_no_rows_have_no_requests() -> None:
    assert chat().requests({"text": []}, 0) == []


def test_a_sample_that_has_no_text_rejects_its_row() -> None:
    requests = chat(sample_by="try").requests({"text": ["a", "a"], "try": [b"1", None]}, 2)
    assert isinstance(requests[0], Skip)
    assert requests[0].status == "rejected"
    assert isinstance(requests[1], Request)


@pytest.mark.parametrize("fields", [{"max_tokens": 64}, {"max_completion_tokens": 64}])
def test_tokens_are_estimated_by_the_length_of_the_messages_and_the_limit_of_the_reply(fields: dict[str, Any]) -> None:
    short, long = chat(body_fields=fields).requests({"text": ["", "a" * 4000]}, 2)
    assert isinstance(short, Request)
    assert isinstance(long, Request)
    assert long.tokens - short.tokens == 1000
    assert 64 < short.tokens < 84


def test_the_columns_that_are_read_are_those_of_the_messages_and_the_sample() -> None:
    assert chat().inputs == ("text",)
    assert chat(sample_by="try").inputs == ("text", "try")
    assert chat(sample_by="text").inputs == ("text",)


# --- columns ----------------------------------------------------------------------------------------------------------
def test_details_are_all_none_or_those_named_in_one_order() -> None:
    assert check_details(False) == ()
    assert check_details(True) == tuple(DETAILS)
    assert check_details(["model", "attempts"]) == ("attempts", "model")
    assert check_details("cost_usd") == ("cost_usd",)


def test_an_unknown_detail_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'input_token'.*Did you mean 'input_tokens'"):
        check_details(["input_token"])


@pytest.mark.parametrize(
    "operation", [chat(details=tuple(DETAILS)), reward(details=tuple(DETAILS))], ids=["chat", "reward"]
)
def test_no_column_holds_objects(operation: Operation) -> None:
    assert {dtype for _, dtype in operation.columns} <= DTYPES
    assert len(dict(operation.columns)) == len(operation.columns)


@pytest.mark.parametrize("operation", [chat(details=tuple(DETAILS)), reward()], ids=["chat", "reward"])
def test_no_rows_give_all_columns_without_values(operation: Operation) -> None:
    assert operation.read([]) == {name: [] for name, _ in operation.columns}


def test_a_row_that_was_not_sent_has_its_status_and_error_and_nothing_else() -> None:
    values = chat(details=("attempts", "cost_usd")).read([Skip("skipped", "null_input", "a column is null")])
    assert values == {
        "o": [None],
        "o__status": ["skipped"],
        "o__error": ["null_input: a column is null"],
        "o__attempts": [None],
        "o__cost_usd": [None],
    }


def test_every_row_has_its_own_outcome_in_its_own_place(record: Make, completion: Write) -> None:
    operation = chat()
    outcomes = [
        record(operation, completion("one")),
        Skip("rejected", "bad_text", "broken"),
        record(operation, completion("two")),
    ]
    outcomes.append(outcomes[0])
    values = operation.read(outcomes)
    assert values["o"] == ["one", None, "two", "one"]
    assert values["o__status"] == ["ok", "rejected", "ok", "ok"]


OUTCOMES = {
    "an answer": Reply(200, {}, b'{"choices":[{"message":{"content":"hi"}}],"model":"m"}', 0.5),
    "broken text": Reply(200, {}, b'{"choices":[{"message":{"content":"a\\ud83d\xff"}}]}', 0.5),
    "newlines and NaN": Reply(200, {}, b'{"x":NaN,\n"choices":\r\n[{"message":{"content":"a\\nb"}}]}', 0.5),
    "odd usage": Reply(200, {}, b'{"usage":"n/a","choices":[{"message":{"content":"a"}}]}', 0.5),
    "refused": Reply(200, {}, b'{"choices":[{"message":{"content":"a","refusal":"No."}}]}', 0.5),
    "no content": Reply(200, {}, b'{"choices":[{"message":{"content":null}}]}', 0.5),
    "a page": Reply(200, {}, b"<html>Sign in</html>", 0.5),
    "nothing": Reply(200, {}, b"", 0.5),
    "error under 200": Reply(200, {}, b'{"error":{"message":"engine died"}}', 0.5),
    "bad request": Reply(400, {}, b'{"error":{"message":"no"}}', 0.5),
    "server error": Reply(500, {}, b"out of\nmemory", 0.5),
    "bare server error": Reply(502, {}, b"", 0.5),
    "timeout": Fault("timeout", True, "no complete reply within 600 s", 600.0),
    "too large": Fault("too_large", True, "the reply is larger than 32 MiB", 1.0),
    "local": Fault("local", False, "odd \ud83d text", 0.0),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_replayed_row_equals_the_first(record: Make, name: str) -> None:
    operation = chat(details=tuple(DETAILS), price_usd=(1.0, 2.0))
    fresh = record(operation, OUTCOMES[name])
    replayed = decode(encode(fresh))
    assert replayed == fresh
    assert operation.read([replayed]) == operation.read([fresh])


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("an answer", "ok", None),
        ("a page", "failed", "malformed: not a chat completion: <html>Sign in</html>"),
        ("nothing", "failed", "malformed: an empty body"),
        ("error under 200", "failed", "error_in_200: engine died"),
        ("bad request", "rejected", "bad_request: 400 no"),
        ("server error", "failed", "server_error: 500 out of memory"),
        ("bare server error", "failed", "server_error: 502"),
        ("timeout", "failed", "timeout: no complete reply within 600 s"),
        ("too large", "invalid", "too_large: the reply is larger than 32 MiB"),
        ("local", "rejected", "local: odd \ufffd text"),
    ],
)
def test_the_error_column_says_code_and_text(record: Make, name: str, status: str, error: str | None) -> None:
    values = chat().read([record(chat(), OUTCOMES[name])])
    assert (values["o__status"], values["o__error"]) == ([status], [error])


def test_a_final_reply_is_judged_anew(record: Make, completion: Write) -> None:
    old = record(chat(), completion("hello"), status="invalid", code="an_older_release_thought_so")
    values = chat().read([old])
    assert (values["o"], values["o__status"], values["o__error"]) == (["hello"], ["ok"], [None])


def test_a_row_that_failed_stays_failed(record: Make, completion: Write) -> None:
    failed = record(chat(), completion("hello"), status="failed", code="malformed", final=False)
    assert chat().read([failed])["o__status"] == ["failed"]


def test_details_are_those_of_the_record_and_its_reply(record: Make, completion: Write) -> None:
    body = json.loads(completion("hello", reasoning_content="I think."))
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 8}
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 2}
    operation = chat(details=tuple(DETAILS), price_usd=(1.0, 2.0))
    values = operation.read([record(operation, json.dumps(body).encode())])
    assert {name.removeprefix("o__"): value for name, (value,) in values.items()} == {
        "o": "hello",
        "status": "ok",
        "error": None,
        "finish_reason": "stop",
        "input_tokens": 11,
        "output_tokens": 3,
        "cached_tokens": 8,
        "reasoning_tokens": 2,
        "reasoning": "I think.",
        "attempts": 2,
        "latency_s": 0.5,
        "cost_usd": (11 * 1.0 + 3 * 2.0) / 1e6,
        "model": "m-2026",
        "request_id": "req-1",
    }


def test_reasoning_is_found_under_its_other_name(record: Make, completion: Write) -> None:
    operation = chat(details=("reasoning",))
    assert operation.read([record(operation, completion("x", reasoning="Hm."))])["o__reasoning"] == ["Hm."]


def test_reasoning_in_front_of_the_answer_is_kept_apart_from_it(record: Make, completion: Write) -> None:
    operation = chat(details=("reasoning",))
    values = operation.read([record(operation, completion("<think>Hm.</think>x"))])
    assert (values["o"], values["o__reasoning"]) == (["x"], ["Hm."])


def test_without_a_price_or_a_count_a_cost_is_null_and_never_zero(record: Make, completion: Write) -> None:
    counted = record(chat(), completion())
    uncounted = record(chat(), completion(), input_tokens=None)
    assert chat(details=("cost_usd",)).read([counted])["o__cost_usd"] == [None]
    assert chat(details=("cost_usd",), price_usd=(1, 2)).read([uncounted])["o__cost_usd"] == [None]


def test_a_reply_with_only_a_reason_to_stop_is_read(record: Make) -> None:
    operation = chat(details=tuple(DETAILS))
    values = operation.read([record(operation, b'{"choices":[{"finish_reason":"stop"}]}')])
    assert values["o__status"] == ["empty"]
    assert values["o__finish_reason"] == ["stop"]


@pytest.mark.parametrize("operation", [chat(), reward()], ids=["chat", "reward"])
def test_an_operation_travels(operation: Operation) -> None:
    assert pickle.loads(pickle.dumps(operation)) == operation
