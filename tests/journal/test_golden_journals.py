"""Journals of earlier versions, kept as they were written: every later version reads them, and answers the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from curator_llm.journal.contents import Sum, contents
from curator_llm.journal.store import Journal

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=sorted(path.name for path in GOLDEN.iterdir()))
def journal(request, tmp_path):
    """A copy: reading makes indexes beside the segments."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / "journal"))


def test_its_replies_are_found(journal):
    with Journal(journal) as opened:
        found = opened.lookup([number.to_bytes(16, "big") for number in range(1, 6)])
    assert sorted(int.from_bytes(key, "big") for key in found) == [1, 2, 4]
    first = found[(1).to_bytes(16, "big")]
    assert msgspec.json.decode(first.reply)["choices"][0]["message"]["content"] == "Sport – ⚽"
    assert (first.op, first.status, first.http, first.model, first.request_id) == (
        "chat/1", "ok", 200, "qwen3-32b", "req-1"
    )  # fmt: skip
    assert (first.input_tokens, first.output_tokens, first.latency_s, first.run) == (12, 3, 0.512, "tag-1a2b/topic")
    rejected = found[(2).to_bytes(16, "big")]
    assert (rejected.status, rejected.code, rejected.billed) == ("rejected", "context_length", False)


def test_its_bill_is_the_same(journal):
    counted = contents(journal)
    assert (counted.records, counted.final, counted.distinct, counted.damaged, counted.torn) == (5, 4, 3, 0, 0)
    assert counted.by == {
        ("qwen3-32b", "ok"): Sum(2, 2, 24, 12),
        ("-", "rejected"): Sum(1, 1, 0, 0),
        ("-", "failed"): Sum(1, 2, 0, 0),
        ("reward", "ok"): Sum(1, 3, 40, 1),
    }
