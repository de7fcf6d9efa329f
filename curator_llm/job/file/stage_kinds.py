"""The stages a job file can name, and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from curator_llm.frame.stages import QueryModel, QueryRewardModel, Stage

STAGES: dict[str, type[Stage]] = {"query_model": QueryModel, "query_reward_model": QueryRewardModel}


def parameters(kind: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a stage's class."""
    found = dict(inspect.signature(STAGES[kind].__init__).parameters)
    del found["self"]
    return found


def output_of(kind: str, arguments: Mapping[str, Any]) -> str:
    """Return the name of a stage's output column, which is the stage's name.

    Examples
    --------
    >>> output_of("query_model", {"output": "topic"}), output_of("query_reward_model", {})
    ('topic', 'reward')
    """
    return str(arguments.get("output") or parameters(kind)["output"].default)
