"""R9: one row in twenty can never work, in nine ways; the others do not notice."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pandas as pd

from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt
from tests.chaos.frames import asking
from tests.chaos.scorecard import Figure, Setting

ID = "R9"
TITLE = "One row in twenty is poison, in nine ways, four of which are found without asking"
IN_TESTS = False

ROWS = 2_000
#: Faults of the server, and how such a row ends.
REMOTE = {
    "http:400": "rejected", "http:413": "rejected", "http:422": "rejected", "context_length": "rejected",
    "content_filter_400": "filtered",
}  # fmt: skip
LOCAL = {"half of a pair": "rejected", "null": "skipped", "bytes": "rejected", "an object": "rejected"}


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask for all rows, the poison spread over them."""
    kinds = [*REMOTE, *LOCAL]
    places = random.Random(setting.seed).sample(range(ROWS), ROWS // 20)
    poison = {place: kinds[number % len(kinds)] for number, place in enumerate(places)}
    values = [_poisoned(poison[row], row) if row in poison else f"row {row}" for row in range(ROWS)]
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object)})
    with FakeServer(faults=faults_named_in_prompt) as server:
        out = asking(server, journal=setting.scratch / "journal")(frame)
        ledger = server.ledger
    good = [row for row in range(ROWS) if row not in poison]
    wrong = sum((out["a__status"][row], out["a"][row]) != ("ok", answer_to(values[row])) for row in good)
    ends = {**REMOTE, **LOCAL}
    yield Figure("rows", len(out), equals=ROWS)
    yield Figure("other rows that are not answered, each with its own answer", wrong, equals=0)
    astray = sum(out["a__status"][row] != ends[kind] for row, kind in poison.items())
    yield Figure("poison rows without their own status", astray, equals=0)
    remote = sum(kind in REMOTE for kind in poison.values())
    yield Figure("requests for poison the server refuses, for each", _asked(ledger.prompts) / remote, equals=1)
    yield Figure("requests for poison that is found here", ledger.requests - len(good) - remote, equals=0)


def _poisoned(kind: str, row: int) -> object:
    match kind:
        case "half of a pair":
            return f"row {row} \ud83d"
        case "null":
            return None
        case "bytes":
            return f"row {row}".encode()
        case "an object":
            return object()
    return f"{kind}: row {row}"


def _asked(prompts: list[str]) -> int:
    return sum(not prompt.startswith("row ") for prompt in prompts)
