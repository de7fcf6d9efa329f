"""What each reply and fault means, class by class."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curator_llm.wire.envelopes import parse_error
from curator_llm.wire.exchange import Fault, FaultKind, Reply
from curator_llm.wire.verdicts import Verdict, asks_for_max_completion_tokens, judge, malformed


def error(message: str = "it says why", **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


FORM = b'{"messages":[],"response_format":{"type":"json_object"}}'


def judged(http: int, body: bytes = b"", *, asked: bytes = FORM, **headers: str) -> Verdict:
    reply = Reply(http, {name.replace("_", "-"): value for name, value in headers.items()}, body, 0.1)
    return judge(reply, malformed, asked)


# --- replies ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("http", [200, 201])
def test_a_body_without_an_error_is_judged_by_the_operation(http: int) -> None:
    verdict = Verdict("final", status="ok")
    assert (
        judge(Reply(http, {}, b"the body", 0.1), lambda body: verdict if body == b"the body" else malformed(body), FORM)
        is verdict
    )


@pytest.mark.parametrize(
    ("http", "body", "kind", "code"),
    [
        (429, error(), "throttled", "rate_limited"),
        (429, error(code="rate_limit_exceeded", type="tokens"), "throttled", "rate_limited"),
        (429, b"", "throttled", "rate_limited"),
        (503, error(), "throttled", "overloaded"),
        (529, error(type="overloaded_error"), "throttled", "overloaded"),
        (408, b"", "transient", "server_timeout"),
        (409, error(), "transient", "request_conflict"),
        (425, b"", "transient", "server_timeout"),
        (500, error(), "transient", "server_error"),
        (502, b"<html>Bad Gateway</html>", "transient", "server_error"),
        (504, b"", "transient", "server_error"),
        (599, b"", "transient", "server_error"),
        (401, error(code="invalid_api_key"), "run", "authentication"),
        (403, error(), "run", "authentication"),
        (407, b"", "run", "authentication"),
        (404, error(code="model_not_found"), "run", "not_found"),
        (405, b"", "run", "not_found"),
        (410, b"", "run", "not_found"),
        (402, error(), "run", "quota"),
        (429, error(code="insufficient_quota", type="insufficient_quota"), "run", "quota"),
        (429, error(type="insufficient_quota"), "run", "quota"),
        (403, error(code="billing_not_active"), "run", "quota"),
        (400, error(code="billing_hard_limit_reached"), "run", "quota"),
        (301, b"", "run", "redirect"),
        (307, b"", "run", "redirect"),
        (308, b"", "run", "redirect"),
        (400, error(), "final", "bad_request"),
        (422, b'{"detail":[{"msg":"bad"}]}', "final", "bad_request"),
        (413, b"", "final", "too_large"),
        (400, error(code="context_length_exceeded"), "final", "context_length"),
        (400, error("This model's maximum context length is 4096 tokens."), "final", "context_length"),
        (400, error("the request exceeds the available context size"), "final", "context_length"),
        (413, error("maximum context length is 4096 tokens"), "final", "context_length"),
        (400, error(code="content_filter"), "final", "content_filter"),
    ],
)
def test_each_status_and_body_belongs_to_one_class(http: int, body: bytes, kind: str, code: str) -> None:
    verdict = judged(http, body)
    assert (verdict.kind, verdict.code) == (kind, code)
    assert verdict.sent
    assert not verdict.billed


@pytest.mark.parametrize("http", [400, 413, 422])
def test_a_request_that_can_never_work_is_rejected(http: int) -> None:
    assert judged(http, error()).status == "rejected"


def test_a_prompt_that_a_content_filter_stops_is_filtered() -> None:
    assert judged(400, error(code="content_filter")).status == "filtered"


def test_the_text_is_the_status_and_what_the_server_says() -> None:
    assert judged(500, error("out of memory")).text == "500 out of memory"
    assert judged(500).text == "500"


def test_a_redirect_says_where_to_on_one_line() -> None:
    verdict = judged(307, location="https://elsewhere.example/v1\x1b[31m" + "x" * 2000)
    assert verdict.text is not None
    assert verdict.text.startswith("307 to https://elsewhere.example/v1")
    assert verdict.text.isprintable()
    assert len(verdict.text) < 600
    assert judged(301).text == "301 to nowhere"


@pytest.mark.parametrize("http", [429, 503, 529, 500, 409])
def test_what_may_work_later_carries_what_the_server_asks_for(http: int) -> None:
    assert judged(http, retry_after="7").retry_after_s == 7.0
    assert judged(http, retry_after="soon").retry_after_s is None


@pytest.mark.parametrize(
    ("http", "advice", "kind", "status"),
    [
        (400, "true", "transient", "rejected"),
        (422, "true", "transient", "rejected"),
        (500, "false", "final", "failed"),
        (409, "false", "final", "failed"),
        (500, "true", "transient", "failed"),
        (500, "maybe", "transient", "failed"),
        (400, "false", "final", "rejected"),
        (401, "true", "run", "failed"),
        (404, "true", "run", "failed"),
        (429, "true", "throttled", "failed"),
        (429, "false", "throttled", "failed"),
        (503, "false", "throttled", "failed"),
    ],
)
def test_the_servers_advice_is_taken_but_neither_for_whole_runs_nor_to_lose_throttled_rows(
    http: int, advice: str, kind: str, status: str
) -> None:
    verdict = judged(http, error(), x_should_retry=advice)
    assert (verdict.kind, verdict.status) == (kind, status)


def test_no_advice_saves_a_run_without_quota() -> None:
    assert judged(429, error(code="insufficient_quota"), x_should_retry="true").kind == "run"


# --- answers that are none --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", "malformed", "an empty body"),
        (b"  \n", "malformed", "an empty body"),
        (b"<html>\n<h1>Sign in</h1>", "malformed", "not a chat completion: <html> <h1>Sign in</h1>"),
        (b'{"choices": []}', "malformed", 'not a chat completion: {"choices": []}'),
        (b'{"choices":[{"mess', "malformed", 'not a chat completion: {"choices":[{"mess'),
        (b"null", "malformed", "not a chat completion: null"),
        (b'{"error":{"message":"engine died"}}', "error_in_200", "engine died"),
        (b'{"error":"engine died","choices":null}', "error_in_200", "engine died"),
    ],
)
def test_a_body_that_is_no_answer_is_tried_again_and_may_have_been_billed(body: bytes, code: str, text: str) -> None:
    verdict = malformed(body)
    assert (verdict.kind, verdict.status, verdict.code, verdict.text) == ("transient", "failed", code, text)
    assert verdict.billed
    assert verdict.sent


def test_a_long_page_is_shown_in_short() -> None:
    text = malformed(b"<html>" + b"x" * 100_000).text
    assert text is not None
    assert len(text) < 200


@pytest.mark.parametrize("http", [202, 204])
def test_an_empty_success_is_malformed_and_no_redirect(http: int) -> None:
    assert judged(http).code == "malformed"


# --- faults -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        ("connect", False, "transient"),
        ("dns", False, "transient"),
        ("tls", False, "transient"),
        ("reset", True, "transient"),
        ("timeout", True, "transient"),
        ("closed", True, "transient"),
    ],
)
def test_faults_of_the_network_may_pass_and_are_billed_if_they_were_sent(
    kind: FaultKind, sent: bool, expected: str
) -> None:
    verdict = judge(Fault(kind, sent, "it broke"), malformed, FORM)
    assert (verdict.kind, verdict.status, verdict.code, verdict.text) == (expected, "failed", kind, "it broke")
    assert verdict.sent is verdict.billed is sent


def test_a_certificate_that_is_not_trusted_stops_the_run() -> None:
    verdict = judge(Fault("certificate", False, "expired"), malformed, FORM)
    assert (verdict.kind, verdict.code, verdict.sent, verdict.billed) == ("run", "certificate", False, False)
    assert verdict.text == "expired"


def test_a_reply_that_is_too_large_is_paid_and_final() -> None:
    verdict = judge(Fault("too_large", True, "larger than 32 MiB"), malformed, FORM)
    assert (verdict.kind, verdict.status, verdict.code, verdict.billed) == ("final", "invalid", "too_large", True)
    assert verdict.text == "larger than 32 MiB"


def test_what_cannot_be_sent_at_all_is_rejected_unpaid() -> None:
    verdict = judge(Fault("local", False, "bad header"), malformed, FORM)
    assert (verdict.kind, verdict.status, verdict.sent, verdict.billed) == ("final", "rejected", False, False)
    assert (verdict.code, verdict.text) == ("local", "bad header")


# --- max_completion_tokens --------------------------------------------------------------------------------------------
OPENAI_SAYS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


def test_a_server_that_asks_for_the_other_name_is_understood() -> None:
    assert (
        judged(400, error(OPENAI_SAYS, code="unsupported_parameter", param="max_tokens")).code == "max_tokens_renamed"
    )
    assert judged(400, error(OPENAI_SAYS)).code == "max_tokens_renamed"


@pytest.mark.parametrize(
    ("http", "message"),
    [
        (422, OPENAI_SAYS),
        (400, "max_tokens is too large: 200000."),
        (400, "max_completion_tokens is too large: 200000."),
        (400, "bad request"),
    ],
)
def test_other_complaints_are_not_taken_for_it(http: int, message: str) -> None:
    assert not asks_for_max_completion_tokens(http, parse_error(error(message)))


def test_a_prompt_that_is_too_long_is_not_taken_for_it() -> None:
    said = "'max_tokens' or 'max_completion_tokens' is too large: 5. This model's maximum context length is 4 tokens."
    assert judged(400, error(said)).code == "context_length"


@pytest.mark.parametrize(
    ("http", "body"),
    [
        (
            422,
            b'{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra","input":8}]}',
        ),
        (
            422,
            b'{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra"}]}}',
        ),
        (
            400,
            error("[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), 'msg': 'Extra inputs'}]"),
        ),
        (400, error("Unrecognized request argument supplied: max_completion_tokens")),
        (400, error("Unknown parameter: 'max_completion_tokens'.")),
    ],
    ids=["Mistral", "Mistral behind a gateway", "vLLM", "Azure", "OpenAI"],
)
def test_a_server_that_knows_the_older_name_alone_is_understood(http: int, body: bytes) -> None:
    assert judged(http, body).code == "max_completion_tokens_renamed"


@pytest.mark.parametrize(
    ("http", "message"),
    [
        (500, "Unknown parameter: 'max_completion_tokens'."),
        (400, "max_completion_tokens is too large: 200000."),
        (400, OPENAI_SAYS),
    ],
)
def test_other_complaints_are_not_taken_for_that(http: int, message: str) -> None:
    assert judged(http, error(message)).code != "max_completion_tokens_renamed"


# --- response_format --------------------------------------------------------------------------------------------------
NO_OBJECT = "In context=(), 'additionalProperties' is required to be supplied and to be false."


@pytest.mark.parametrize("http", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        error(f"Invalid schema for response_format 'n': {NO_OBJECT}", param="response_format"),
        error("Invalid value: 'json_schema'. Supported values are: 'text'.", param="response_format.type"),
        error(f"Invalid schema: {NO_OBJECT}", code="invalid_json_schema", param="text.format.schema"),
        error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        error(f"litellm.BadRequestError: OpenAIException - Invalid schema for response_format 'n': {NO_OBJECT}"),
        error("This response_format type is unavailable now"),
        error("The provided JSON schema contains features not supported by xgrammar."),
        error('Grammar error: Unimplemented keys: ["propertyNames"]'),
        error("Invalid grammar specification: no such type"),
        error("Invalid JSON grammar specification."),
        error("Failed to transform json schema into a grammar: no such type"),
        error("Failed to compile the guided decoding grammar"),
        error("structured_outputs is not supported by this backend"),
        error("Automatic parser generation failed: JSON schema error at #/properties/name: unrecognized type objekt"),
        error('response_format type must be one of "text" or "json_object", but got: grammar'),
        b'{"detail":[{"type":"literal_error","loc":["body","response_format","type"],"msg":"Input should be text"}]}',
        error(
            "[{'type': 'missing', 'loc': ('body', 'response_format', 'json_schema', 'name'), 'msg': 'Field required'}]"
        ),
    ],
    ids=str,
)
def test_a_schema_that_the_server_refuses_stops_the_run_as_every_row_sends_it(http: int, body: bytes) -> None:
    verdict = judged(http, body)
    assert (verdict.kind, verdict.code, verdict.billed) == ("run", "request_refused", False)
    assert verdict.text is not None
    assert verdict.text.startswith(f"{http} ")


@pytest.mark.parametrize(
    ("http", "body", "code"),
    [
        (
            400,
            error(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            ),
            "bad_request",
        ),
        (400, error("Invalid schema for response_format", param="messages[0].content"), "bad_request"),
        (
            400,
            error("the prompt exceeds the context size; response_format", code="context_length_exceeded"),
            "context_length",
        ),
        (400, error("filtered", code="content_filter", param="response_format"), "content_filter"),
        (400, error("bad role", param=None), "bad_request"),
        (
            400,
            error("[{'loc': ('body', 'messages', 0, 'role'), 'input': {'content': 'Grammar error: fix it'}}]"),
            "bad_request",
        ),
        (
            422,
            b'{"detail":[{"loc":["body","messages"],"input":{"messages":[{"content":"Grammar error: x"}]}}]}',
            "bad_request",
        ),
        (413, error("Invalid schema for response_format", param="response_format"), "too_large"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_row_does_not_stop_the_run_whatever_it_says_and_sends(
    http: int, body: bytes, code: str
) -> None:
    verdict = judged(http, body)
    assert (verdict.kind, verdict.code) == ("final", code)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (b'{"messages":[{"role":"user","content":"\\"response_format\\": {}"}]}', "final"),
        (b'{"messages":[],"guided_json":{}}', "run"),
        (b'{"messages":[],"structured_outputs":{}}', "run"),
    ],
)
def test_a_request_that_asks_for_no_form_cannot_have_its_schema_refused(asked: bytes, kind: str) -> None:
    said = error("Invalid prompt 'why did it say failed to compile grammar?': flagged by policy")
    assert judged(400, said, asked=asked).kind == kind


def test_a_server_that_fails_on_a_schema_may_work_later() -> None:
    assert judged(500, error("Grammar error: out of memory")).kind == "transient"
