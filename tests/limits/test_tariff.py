"""What requests cost, in dollars too."""

from __future__ import annotations

import pytest

from curator_llm.limits.tariff import Tariff
from curator_llm.wire.verdicts import Verdict


def test_input_and_output_have_their_own_price_for_a_million_tokens() -> None:
    tariff = Tariff(output_limit=1_000_000, price_usd=(2.0, 30.0))
    assert tariff.worst(b"x" * 500_000) == {"requests": 1, "tokens": 1_500_000, "usd": 31.0}
    answered = Verdict("final", "ok", billed=True, input_tokens=250_000, output_tokens=100_000)
    assert tariff.charged(answered, tariff.worst(b""))["usd"] == pytest.approx(3.5, abs=1e-9)


def test_what_was_charged_without_a_count_is_the_worst_and_whether_it_was_a_request_is_known() -> None:
    tariff = Tariff(output_limit=10, price_usd=(1.0, 2.0))
    worst = {"requests": 7.0, "tokens": 90.0, "usd": 1e-4}
    assert tariff.charged(Verdict("final", "ok", billed=True), worst) == {**worst, "requests": 1}
