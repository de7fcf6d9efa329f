"""Prices: the user's own, else those of the extra ``prices``."""

from __future__ import annotations

import sys

import pytest

from curator_llm import Endpoint
from curator_llm.spec.prices import price_of


def test_a_price_that_is_given_holds():
    assert price_of(Endpoint("gpt-4.1-mini", price_usd=(1, 2))) == (1.0, 2.0)


def test_a_hosted_model_has_the_price_of_its_address():
    assert price_of(Endpoint("gpt-4.1-mini")) == pytest.approx((0.4, 1.6))


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("gpt-4.1-mini", base_url="http://vllm.ml.svc:8000/v1"),
        Endpoint("gpt-4.1-mini", base_url="https://llm.example.com/v1"),
        Endpoint("a-model-nobody-sells"),
    ],
    ids=["own server", "unknown address", "unknown model"],
)
def test_a_price_is_never_guessed(endpoint):
    assert price_of(endpoint) is None


def test_without_the_extra_there_is_no_price(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert price_of(Endpoint("gpt-4.1-mini")) is None
