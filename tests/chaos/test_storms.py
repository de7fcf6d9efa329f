"""Storms: many faults in one run, and what is kept of it."""

from __future__ import annotations

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel
from curator_llm.errors import AuthenticationError, ModelNotFoundError, QuotaExceededError, RunError
from curator_llm.testing import FakeServer, faults_named_in_prompt, seeded_faults
from tests.chaos.invariants import assert_run_invariants

#: What passes: throttling, failures of the server, broken connections.
PASSING = [
    "retry_after_ms:20", "http:500", "http:502", "http:504", "http:408", "bad_gateway", "reset", "close",
    "reset_mid_body", "short_body",
]  # fmt: skip


def stage(server: FakeServer, **endpoint) -> QueryModel:
    reached = Endpoint("m", base_url=server.base_url, max_concurrent_requests=32, **endpoint)
    return QueryModel(reached, prompt="{text}", output="a", details=["input_tokens", "output_tokens"])


def texts(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": pd.array([f"row {n}" for n in range(count)], dtype="string[pyarrow]")})


def test_when_three_attempts_in_ten_fail_no_row_does_and_few_requests_are_sent_again():
    frame = texts(2_000)
    with FakeServer(faults=seeded_faults(PASSING, rate=0.3, seed=1, attempts=2)) as server:
        run = stage(server)
        out = run(frame)
        assert out["a__status"].tolist() == ["ok"] * 2_000
        assert server.ledger.requests <= 1.5 * 2_000
        assert_run_invariants(frame, out, run, server)


def test_faults_of_all_kinds_leave_every_row_with_its_own_outcome():
    kinds = {
        "http:400": "rejected", "context_length": "rejected", "refusal": "refused", "finish_length": "truncated",
        "content_filter_400": "filtered", "null_content": "empty", "no_usage": "ok",
        "retry_after_ms:20@1": "ok", "reset@1": "ok", "http:500@1": "ok", "empty_body@1": "ok", "fine": "ok",
    }  # fmt: skip
    prompts = [f"{kind}: row {n}" for n in range(25) for kind in kinds]
    frame = pd.DataFrame({"text": pd.array([*prompts, None], dtype="string[pyarrow]")})
    with FakeServer(faults=faults_named_in_prompt) as server:
        run = stage(server)
        out = run(frame)
        assert out["a__status"].tolist() == [*list(kinds.values()) * 25, "skipped"]
        assert_run_invariants(frame, out, run, server)


FATAL = [
    ("http:401", AuthenticationError),
    ("http:403", AuthenticationError),
    ("http:404", ModelNotFoundError),
    ("insufficient_quota", QuotaExceededError),
    ("redirect", RunError),
]


@pytest.mark.parametrize(("fault", "error"), FATAL)
@pytest.mark.parametrize("row", [0, 500])
def test_after_what_is_wrong_for_all_rows_only_what_is_in_flight_is_still_asked(fault, error, row):
    frame = texts(5_000)
    wrong = lambda prompt, _: fault if int(prompt.split()[1]) >= row else None  # noqa: E731
    with FakeServer(faults=wrong, redirect_to="http://127.0.0.1:9/v1") as server:
        run = stage(server)
        with pytest.raises(error):
            run(frame)
        failed = server.ledger.by_fault[fault]
        assert failed <= (32 + 3 if row else 1)
        assert server.ledger.answered - failed <= row + 32
        kept = run.replay(frame)["a__status"]
        assert (kept == "ok").sum() == server.ledger.by_status.get(200, 0)
