"""R14: whatever happens to a journal, it raises nothing, answers nothing wrong and loses only what was touched."""

from __future__ import annotations

import logging
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from curator_llm.journal.contents import contents
from tests.chaos.scorecard import Figure, Setting
from tests.journal.damage import KEYS, Harm, Model, check, damage, fill, read_files

ID = "R14"
TITLE = "Damage of any kind to a journal's files"
IN_TESTS = False

#: So many journals are written, and each case damages one of them.
JOURNALS = 60


def figures(setting: Setting) -> Iterator[Figure]:
    """Damage journals and look up every key, with readers from before and after."""
    cases = 10_000
    memory = Path("/dev/shm")
    scratch = memory if os.access(memory, os.W_OK) else setting.scratch
    ended: Counter[str] = Counter()
    logging.getLogger("curator_llm").setLevel(logging.CRITICAL)  # what is damaged is told, 10,000 times

    @seed(setting.seed)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, JOURNALS - 1), damage, st.booleans())
    def case(number: int, harms: list[Harm], indexed: bool) -> None:
        model, files = journals[number]
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            try:
                ended["lost"] += check(model, files, harms, Path(directory), indexed=indexed)
                contents(Path(directory))
                ended["good"] += 1
            except AssertionError as error:
                ended[str(error).partition("\n")[0]] += 1
            except Exception as error:  # noqa: BLE001  it is what is counted
                ended["raised"] += 1
                ended[repr(error)[:200]] += 1

    with patch.object(os, "fsync", lambda _: None), patch.object(os, "fdatasync", lambda _: None):
        journals = [_written(setting.seed + number, scratch) for number in range(JOURNALS)]
        case()
    tried = ended["good"] + ended["raised"] + ended["a wrong value"] + ended["lost what nobody touched"]
    yield Figure("cases", tried, at_least=cases)
    yield Figure("cases that raise", ended["raised"], equals=0)
    yield Figure("cases with a wrong value", ended["a wrong value"], equals=0)
    yield Figure("cases that lose what was not touched", ended["lost what nobody touched"], equals=0)
    yield Figure("records lost that were touched", ended["lost"], at_least=1)


def _written(number: int, scratch: Path) -> tuple[Model, dict[str, bytes]]:
    """Return a journal of up to three segments with up to eight records each."""
    rng = random.Random(number)
    plan = [
        [(rng.randrange(len(KEYS)), rng.random() < 0.8) for _ in range(rng.randrange(9))]
        for _ in range(rng.randrange(1, 4))
    ]
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        return fill(Path(directory), plan), read_files(Path(directory))
