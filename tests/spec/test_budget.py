"""What a budget may be."""

from __future__ import annotations

import pickle

import pytest

from curator_llm import Budget
from curator_llm.errors import ConfigurationError


def test_a_budget_without_a_limit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_cost_usd, max_total_tokens or max_requests"):
        Budget(name="mine")


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "900", True])
@pytest.mark.parametrize("name", ["max_cost_usd", "max_total_tokens", "max_requests"])
def test_a_limit_that_is_no_number_above_zero_is_refused_with_its_name_and_value(name: str, limit: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Budget(**{name: limit})
    assert f"`{name}` is {limit!r}" in str(raised.value)


@pytest.mark.parametrize("name", ["max_total_tokens", "max_requests"])
def test_tokens_and_requests_are_whole(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is 1\.5: give a whole number"):
        Budget(**{name: 1.5})


def test_a_budget_travels_and_says_what_it_is() -> None:
    budget = Budget(max_cost_usd=2.5, name="mine")
    assert pickle.loads(pickle.dumps(budget)) == budget
    assert repr(budget) == "Budget(max_cost_usd=2.5, max_total_tokens=None, max_requests=None, name='mine')"
