"""What was spent of a budget, kept beside the journal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from curator_llm.engine.spending import Spending, folder_of, read_book
from curator_llm.errors import JournalError
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.limits.budget_book import NOTHING
from curator_llm.wire.exchange import Record

ONE = {**NOTHING, "requests": 1}
LIMITS = {"requests": 3}


def exchange(spending: Spending, **values):
    return spending.exchange(**{"spent": NOTHING, "held": NOTHING, "least": ONE, "limits": LIMITS, **values})


def test_what_is_spent_stays_spent_for_whoever_comes_later(tmp_path):
    first = Spending(tmp_path, "mine")
    exchange(first)
    first.close({**NOTHING, "requests": 2})
    assert read_book(tmp_path, "mine").spent["requests"] == 2
    later = Spending(tmp_path, "mine")
    assert exchange(later).granted == ONE
    assert exchange(later, held=ONE).granted is None
    later.close(ONE)


def test_two_names_are_two_budgets_and_a_name_may_hold_anything(tmp_path):
    for name in ("../../etc", "a b", "ä/ö", "a-b"):
        spending = Spending(tmp_path, name)
        exchange(spending)
        spending.close(ONE)
        assert read_book(tmp_path, name).spent["requests"] == 1
        assert folder_of(tmp_path, name).parent == tmp_path / "budgets"


def test_members_that_live_may_give_something_back_and_one_that_was_killed_has_spent_what_it_held(tmp_path):
    program = f"""
import sys
from pathlib import Path
from curator_llm.engine.spending import Spending
spending = Spending(Path({str(tmp_path)!r}), "mine")
nothing = dict.fromkeys(("requests", "tokens", "usd"), 0.0)
granted = spending.exchange(spent=nothing, held=nothing, least={{**nothing, "requests": 3}}, limits={{"requests": 3}})
print(granted.granted["requests"], flush=True)
sys.stdin.read()
"""
    here = Spending(tmp_path, "mine")
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"3\n"
        answer = exchange(here)
        assert (answer.granted, answer.others_hold) == (None, True)
        child.kill()
        child.wait()
    answer = exchange(here)
    assert (answer.granted, answer.others_hold, answer.spent["requests"]) == (None, False, 3)
    here.close(NOTHING)


def test_a_member_that_does_not_know_what_it_spent_has_spent_what_it_held(tmp_path):
    spending = Spending(tmp_path, "mine")
    exchange(spending)
    spending.close(None)
    assert read_book(tmp_path, "mine").spent["requests"] == 1


@pytest.mark.parametrize("content", [None, b"", b'{"spent": 7}', b"\x00" * 100])
def test_a_book_that_is_gone_or_damaged_is_made_anew_from_the_journal(tmp_path, content):
    spent = {"requests": 2, "tokens": 30, "usd": 0.5}
    said = {"op": "chat/1", "status": "ok", "final": True, "attempts": 1, "at": 0.0, "reply": embed(b"{}")}
    with Journal(tmp_path) as journal:
        records = [(f"{n:032x}", name) for n, name in enumerate(["mine", "mine", "another"])]
        journal.append([Record(key=key, budget=name, spent=spent, **said) for key, name in records])
    spending = Spending(tmp_path, "mine")
    exchange(spending, limits={"requests": 100})
    spending.close(NOTHING)
    book = folder_of(tmp_path, "mine") / "spent.json"
    if content is None:
        book.unlink()
    else:
        book.write_bytes(content)
    assert read_book(tmp_path, "mine").spent == {"requests": 4, "tokens": 60, "usd": 1.0}


def test_what_rounding_leaves_is_not_waited_for(tmp_path):
    one, other = Spending(tmp_path, "mine"), Spending(tmp_path, "mine")
    limits = {"usd": 1.0}
    one.exchange(spent={**NOTHING, "usd": 1.0}, held={**NOTHING, "usd": -4e-19}, least=None, limits=limits)
    answer = other.exchange(spent=NOTHING, held=NOTHING, least={**ONE, "usd": 0.1}, limits=limits)
    assert (answer.granted, answer.others_hold) == (None, False)
    one.close(NOTHING)
    other.close(NOTHING)


def test_without_locks_on_files_a_budget_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("curator_llm.engine.spending.claim", lambda _: "unknown")
    with pytest.raises(JournalError, match="needs locks on files"):
        Spending(tmp_path, "mine")


def test_a_book_that_cannot_be_written_lets_nothing_be_spent_and_says_why(tmp_path, monkeypatch):
    spending = Spending(tmp_path, "mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("curator_llm.engine.spending.os.fsync", full)
    with pytest.raises(JournalError, match="The disk is full"):
        exchange(spending)
    monkeypatch.undo()
    assert exchange(spending).granted == ONE
    spending.close(ONE)
