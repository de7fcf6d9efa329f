"""R17: what changes an answer asks anew, and what does not is free."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd

from curator_llm import Endpoint, GenerationConfig, QueryModel
from curator_llm.errors import ConfigurationError
from curator_llm.testing import FakeServer
from tests.chaos.scorecard import Figure, Setting

ID = "R17"
TITLE = "A stage is changed in one field and asked again"
IN_TESTS = True

ROWS = 4

#: Arguments of a stage; those of its endpoint and its generation are merged into what it has.
Change = Mapping[str, Any]

GENERATION = {
    "temperature": 0,
    "max_tokens": 64,
    "seed": 1,
    "stop": ["\n\n"],
    "extra_body": {"min_p": 0.1, "best_of": 1},
}
BASE: Change = {
    "prompt": "Topic of {text}",
    "system": "Be brief.",
    "output": "a",
    "generation": GENERATION,
    "endpoint": {"headers": {"x-tenant": "one"}, "revision": "1", "extra_body": {"top_a": 1}},
}

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def semantic(elsewhere: str) -> dict[str, Change]:
    """Return changes of what is asked, or of who answers."""
    generation: dict[str, Any] = {
        "temperature": 0.0001, "max_tokens": 65, "seed": 2, "stop": ["\n"], "top_p": 0.9, "top_k": 4, "logprobs": True,
        "presence_penalty": 0.1, "frequency_penalty": 0.1, "reasoning_effort": "low", "response_format": SCHEMA,
        "extra_body": {"min_p": 0.2, "best_of": 1},
    }  # fmt: skip
    endpoint: dict[str, Any] = {
        "model": "other", "base_url": elsewhere, "name": "the fleet", "revision": "2", "headers": {"x-tenant": "two"},
        "extra_body": {"top_a": 2},
    }  # fmt: skip
    return {
        "prompt": {"prompt": "Topic of {text}."},
        "column": {"prompt": "Topic of {other}"},
        "system": {"system": "Be brief"},
        "no system": {"system": None},
        "role": {"prompt": None, "system": None, "messages": _messages("developer")},
        "choices": {"choices": ["a", "b"]},
        "sample_by": {"sample_by": "n"},
        "max_completion_tokens": {"generation": {"max_tokens": None, "max_completion_tokens": 64}},
        "no seed": {"generation": {"seed": None}},
        **{name: {"generation": {name: value}} for name, value in generation.items()},
        **{f"endpoint {name}": {"endpoint": {name: value}} for name, value in endpoint.items()},
    }


def indifferent(base_url: str, journal: Path) -> dict[str, Change]:
    """Return changes of how it is asked, or of what is made of the answers."""
    endpoint = {
        "api_key": "env:ANOTHER_KEY", "timeout": "7s", "row_deadline": "3min", "max_attempts": 2, "scope": "ours",
        "max_concurrent_requests": 3, "max_requests_per_minute": 5e4, "max_tokens_per_minute": 1e8,
        "price_usd": (1.0, 2.0), "base_url": [base_url, "http://127.0.0.1:9/v1"], "allow_http": True, "proxy": "env",
        "headers": {"X-Tenant": "one"},
    }  # fmt: skip
    backwards = dict(reversed({**GENERATION, "extra_body": dict(reversed(GENERATION["extra_body"].items()))}.items()))
    return {
        "partitions": {"partitions": 3},
        "journal spelled otherwise": {"journal": f"{journal.parent}/./{journal.name}/../{journal.name}/"},
        "journal from here": {"journal": os.path.relpath(journal)},
        "output": {"output": "another name"},
        "details": {"details": True},
        "order of parameters": {"generation": backwards},
        "GenerationConfig": {"generation": GenerationConfig(**GENERATION)},
        "prompt as messages": {"prompt": None, "system": None, "messages": _messages("system")},
        "on_error": {"on_error": "raise"},
        "fail_on_error": {"fail_on_error": 0.5},
        "rows": {"order": -1},
        "dtype": {"dtype": "category"},
        **{f"endpoint {name}": {"endpoint": {name: value}} for name, value in endpoint.items()},
    }


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask once; then with each change, and in full with many together."""
    journal = setting.scratch / "journal"
    with FakeServer() as server, FakeServer() as elsewhere:

        def asked(change: Change) -> int:
            """Return for how many rows a request is sent."""
            before = server.ledger.requests + elsewhere.ledger.requests
            _ask(server.base_url, journal, change)
            return server.ledger.requests + elsewhere.ledger.requests - before

        def is_refused() -> bool:
            try:
                asked({"generation": {"n": 2}})
            except ConfigurationError:
                return True
            return False

        yield Figure("requests at first", asked({}), equals=ROWS)
        asks_anew, free = semantic(elsewhere.base_url), indifferent(server.base_url, journal)
        stale = [name for name, change in asks_anew.items() if asked(change) != ROWS]
        yield Figure(_told("changes of what is asked", stale), len(asks_anew), at_least=14)
        yield Figure("of these answered from before", len(stale), equals=0)
        paid = [name for name, change in free.items() if asked(change)]
        yield Figure(_told("changes of how it is asked", paid), len(free), at_least=8)
        yield Figure("of these that cost requests", len(paid), equals=0)
        yield Figure("requests when all is asked again", sum(map(asked, asks_anew.values())), equals=0)
        yield Figure("several answers per row are refused", int(is_refused()), equals=1)
        if not setting.small:
            yield from _together(asked, asks_anew, free, random.Random(setting.seed))


def _together(
    asked: Any, asks_anew: dict[str, Change], free: dict[str, Change], draw: random.Random
) -> Iterator[Figure]:
    # those that leave the journal and the columns where they are, and have the key and the server to ask anew
    kept = {"partitions", "output", "details", "dtype", "rows", "on_error", "fail_on_error"}
    unable = {"endpoint api_key", "endpoint base_url"}
    single = [name for name in free if name in kept or (name.startswith("endpoint") and name not in unable)]
    paid = stale = 0
    for number in range(100):
        indifferent = _merged(*(free[name] for name in draw.sample(single, 5)))
        paid += asked(indifferent) > 0
        other = {"generation": {"seed": 100 + number}}
        stale += asked(_merged(indifferent, asks_anew[draw.choice([*asks_anew])], other)) != ROWS
    yield Figure("of 100 times five changes of how, those that cost requests", paid, equals=0)
    yield Figure("of 100 times five of how and one of what, those answered from before", stale, equals=0)


def _told(what: str, wrong: list[str]) -> str:
    return f"{what} (wrong: {', '.join(wrong)})" if wrong else what


def _merged(*changes: Change) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for change in changes:
        for name, value in change.items():
            both = isinstance(merged.get(name), dict) and isinstance(value, dict)
            kept = {key: merged[name][key] for key in merged[name] if key not in value} if both else {}
            merged[name] = {**value, **kept} if both else value
    return merged


def _messages(role: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "Be brief."}, {"role": "user", "content": "Topic of {text}"}]


def _ask(base_url: str, journal: Path, change: Change) -> None:
    arguments = _merged({"journal": str(journal)}, BASE, change)
    frame = pd.DataFrame({"n": range(ROWS)}, index=range(10, 10 + ROWS))
    frame = frame.assign(text=[f"row {n}" for n in frame.n], other=[f"other {n}" for n in frame.n])
    frame = frame[:: arguments.pop("order", 1)].astype({"text": arguments.pop("dtype", "str")})
    partitions = arguments.pop("partitions", 0)
    endpoint = Endpoint(**{"model": "m", "base_url": base_url, **arguments.pop("endpoint")})
    stage = QueryModel(endpoint, **arguments)
    if partitions:
        stage(dd.from_pandas(frame, npartitions=partitions)).compute(scheduler="threads")
    else:
        stage(frame)
