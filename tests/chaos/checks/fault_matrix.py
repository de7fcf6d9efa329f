"""R1: every fault in one run, in each way to reach a server; an oracle knows each row's end, attempts and bill."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import dask
import pandas as pd

from curator_llm import QueryModel, runtime
from curator_llm.journal.segment import Scan, segments_of
from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt
from curator_llm.wire.exchange import Record
from tests.chaos.frames import CAP, texts
from tests.chaos.oracle import AGAIN, HTTP, WAYS, Expected, expected, scripts_for
from tests.chaos.scorecard import Figure, Setting
from tests.chaos.ways import Ways

ID = "R1"
TITLE = "Every fault, for good and once, in one run, each of four ways to reach a server"
IN_TESTS = True

MAX_ATTEMPTS = 3
#: So many rows without a fault for each with one, and some at the end: a server that fails most of what it gets, or all
#: that is left, is taken to be away.
GOOD = 3
#: A call of a client of one's own that does not return keeps its thread: some of these are enough.
STUCK = ("hang", "hang_after_headers", "trickle", "hang@1", "hang_after_headers@1", "trickle@1")
#: Faults under which a good answer is not the plain one.
CHANGED = {"nul": "{} \x00", "surrogate": "{} \ufffd", "bad_utf8": "\ufffd\ufffd{}"}


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask in each way; in the small form in the first alone."""
    with dask.config.set({"curator-llm.engine.max-reply-bytes": "1MiB"}), Ways() as ways:
        for way in WAYS[: setting.size(small=1, full=4)]:
            yield from _one_way(setting, ways, way)


def _one_way(setting: Setting, ways: Ways, way: str) -> Iterator[Figure]:
    rows = setting.size(small=1, full=25)
    scripts = scripts_for(way)
    if setting.small:  # rows that fail for good in a brown-out take long; tests/engine/test_transport_table.py has them
        scripts = [script for script in scripts if script not in AGAIN]
    few = STUCK if way == "sync client" else ()
    prompts = [f"{script}: row {n}" for script in scripts for n in range(1 if script in few else rows)]
    prompts += [f"fine: another {n}" for n in range(GOOD * len(prompts))]
    random.Random(setting.seed).shuffle(prompts)
    prompts += [f"fine: last {n}" for n in range(4 * CAP)]
    known = partial(expected, faults_named_in_prompt, way=way, max_attempts=MAX_ATTEMPTS)
    ends = {prompt: known(prompt) for prompt in prompts}
    frame, journal = texts(prompts), setting.scratch / way.replace(" ", "-")
    with FakeServer(faults=faults_named_in_prompt) as server:
        timeout = "1s" if way in HTTP else "2s"  # the SDK's own work is slow enough to reach one second now and then
        reached = ways.endpoint(
            way, server.base_url, max_concurrent_requests=CAP, timeout=timeout, max_attempts=MAX_ATTEMPTS
        )
        details = ["input_tokens", "output_tokens", "attempts"]
        out = QueryModel(reached, prompt="{text}", output="a", details=details, journal=str(journal))(frame)
        runtime.close()
        kept = sum(end.most for prompt, end in ends.items() if prompt.partition(":")[0] in few)
        server.wait_until(lambda ledger: ledger.in_flight <= kept)
    ledger = server.ledger
    arrived = Counter(ledger.prompts)
    for row in out.itertuples(index=False):
        if lost := int(row.a__attempts) + ends[row.text].waits - arrived[row.text]:
            end = known(row.text, lost=lost)
            # The last of a row's attempts names its error; where that one was lost, it was a reset.
            ends[row.text] = replace(end, code="reset") if end.code and _code(row) == "reset" else end
    wrong = [row for row in out.itertuples(index=False) if not _is_right(row, ends[row.text])]
    for row in wrong[:10]:
        print(way, row, ends[row.text])
    yield Figure(f"{way}: rows", len(out), equals=len(prompts))
    yield Figure(f"{way}: rows whose status, code, text, attempts or tokens are not the oracle's", len(wrong), equals=0)
    closing = sum(prompt.startswith("close_after_reply") for prompt in prompts)
    lost = sum(end.lost for end in ends.values())
    yield Figure(f"{way}: attempts that met a connection closed behind a reply", lost, at_most=closing)
    records = _records(journal)
    reported = [(record.input_tokens or 0, record.output_tokens or 0) for record in records]
    yield Figure(
        f"{way}: tokens in the journal that the oracle does not know", _off(reported, ends, "reported"), equals=0
    )
    charged = [(ledger.input_tokens, ledger.output_tokens)]
    yield Figure(
        f"{way}: tokens the server charged that the oracle does not know", _off(charged, ends, "charged"), equals=0
    )
    said = Counter((record.status, record.code, record.billed) for record in records)
    right = Counter((end.status, end.code, end.billed) for end in ends.values())
    yield Figure(f"{way}: records that are not paid, or unpaid, as they should be", (said - right).total(), equals=0)
    fewest, most = (
        sum(getattr(end, name) + end.waits - end.lost for end in ends.values()) for name in ("fewest", "most")
    )
    yield Figure(f"{way}: requests", ledger.requests, at_least=fewest, at_most=most)


def _is_right(row: tuple, end: Expected) -> bool:
    tokens = tuple(0 if pd.isna(count) else count for count in (row.a__input_tokens, row.a__output_tokens))
    plain = CHANGED.get(row.text.partition(":")[0], "{}").format(answer_to(row.text))
    return (
        (row.a__status, _code(row), tokens) == (end.status, end.code, end.reported)
        and end.fewest <= row.a__attempts <= end.most
        and (end.status != "ok" or row.a == plain)
    )


def _code(row: tuple) -> str | None:
    return None if pd.isna(row.a__error) else row.a__error.partition(":")[0]


def _records(journal: Path) -> list[Record]:
    return [record for path in segments_of(journal) for _, _, record in Scan(path)]


def _off(counts: list[tuple[int, int]], ends: dict[str, Expected], name: str) -> int:
    """Return by how many tokens sums differ, input and output together."""
    return sum(
        abs(sum(count[place] for count in counts) - sum(getattr(end, name)[place] for end in ends.values()))
        for place in (0, 1)
    )
