"""A stage that keeps to a budget: what it needs for that, and the name it spends under."""

from __future__ import annotations

import dataclasses
import hashlib

from curator_llm.errors import ConfigurationError
from curator_llm.frame.run_rows import StageSpec
from curator_llm.limits.tariff import Tariff
from curator_llm.operations.base import ChatRequests
from curator_llm.spec.budget import Budget


def with_budget(spec: StageSpec, operation: ChatRequests, budget: Budget) -> StageSpec:
    """Return a stage that keeps to a budget, whose name is made of what is asked where it has none.

    Raises
    ------
    ConfigurationError
        When the budget cannot be kept: replies without an end, no price, no journal.
    """
    if spec.journal is False:
        msg = "A budget is the total of all runs, and kept with the journal: drop journal=False, or the budget."
        raise ConfigurationError(msg)
    if operation.output_limit is None and (budget.max_cost_usd is not None or budget.max_total_tokens is not None):
        msg = f"A budget of {budget} needs an end to each reply: give generation={{'max_tokens': ...}}."
        raise ConfigurationError(msg)
    if operation.price_usd is None and budget.max_cost_usd is not None:
        msg = (
            f"A budget of {budget} needs a price, and nobody says that of {operation.model!r}: give the endpoint "
            "price_usd=(input, output), US dollars for a million tokens, or limit max_total_tokens."
        )
        raise ConfigurationError(msg)
    if budget.name is None:
        asked = (operation.identity, operation.messages, operation.model, operation.body_fields)
        digest = hashlib.sha256(repr(asked).encode("utf-8", "replace")).hexdigest()
        budget = dataclasses.replace(budget, name=f"{spec.output}-{digest[:8]}")
    tariff = Tariff(operation.output_limit or 0, operation.price_usd)
    return dataclasses.replace(spec, budget=budget, tariff=tariff)
