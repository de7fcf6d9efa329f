"""A model server for tests, of this package and of yours.

This module covers `FakeServer`, the faults it can play, the scripts that choose them, and the pure functions that tell
what it answers.

Examples
--------
>>> from curator_llm.testing import FakeServer, faults_named_in_prompt
>>> with FakeServer(latency=0.02, faults=faults_named_in_prompt) as server:
...     server.ledger.requests
0
"""

from __future__ import annotations

from curator_llm.testing.answers import (
    HELPSTEER_ATTRIBUTES,
    answer_to,
    choice_of,
    draw,
    prompt_of,
    reward_of,
    tokens_of,
)
from curator_llm.testing.fake_server import FakeServer
from curator_llm.testing.faults import FAULTS, Fault
from curator_llm.testing.ledger import Ledger, Seen
from curator_llm.testing.process import FakeServerProcess
from curator_llm.testing.scripts import faults_named_in_prompt, long_tailed, seeded_faults

__all__ = [
    "FAULTS",
    "HELPSTEER_ATTRIBUTES",
    "FakeServer",
    "FakeServerProcess",
    "Fault",
    "Ledger",
    "Seen",
    "answer_to",
    "choice_of",
    "draw",
    "faults_named_in_prompt",
    "long_tailed",
    "prompt_of",
    "reward_of",
    "seeded_faults",
    "tokens_of",
]
