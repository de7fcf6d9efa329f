"""What a budget's members may spend together."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from curator_llm.limits.budget_book import NOTHING, BudgetBook, covers, plus
from curator_llm.limits.tariff import Tariff
from curator_llm.wire.verdicts import Verdict

ONE = {"requests": 1, "tokens": 100, "usd": 0.01}


def granted(book: BudgetBook, member: str = "a", limits=None, **values):
    return book.exchange(
        member, **{"spent": NOTHING, "held": NOTHING, "least": ONE, "limits": limits or {"requests": 3}, **values}
    )


def test_a_member_is_granted_what_it_needs_until_nothing_is_left():
    book = BudgetBook()
    assert granted(book)["requests"] == 1
    assert granted(book, held=ONE)["requests"] == 1
    assert granted(book, "b")["requests"] == 1
    assert granted(book, "c") is None


def test_a_member_is_granted_a_little_ahead_of_a_large_budget_and_only_of_what_is_limited():
    assert granted(BudgetBook(), limits={"tokens": 4_000_000}) == {"requests": 1, "tokens": 10_000, "usd": 0.01}


def test_what_a_member_does_not_hold_any_more_comes_back():
    book = BudgetBook()
    granted(book, limits={"requests": 1})
    assert granted(book, "b", limits={"requests": 1}) is None
    granted(book, least=None, limits={"requests": 1})
    assert granted(book, "b", limits={"requests": 1})["requests"] == 1


def test_what_a_lost_member_held_counts_as_spent_and_what_one_that_left_held_does_not():
    book = BudgetBook()
    granted(book, "a")
    granted(book, "b")
    book.lose("a")
    book.leave("b", {**NOTHING, "requests": 1})
    assert (book.spent["requests"], book.held, book.taken["requests"]) == (2, {}, 2)


def test_every_limit_holds_and_the_smallest_decides():
    assert granted(BudgetBook(), limits={"requests": 100, "usd": 0.009}) is None
    assert granted(BudgetBook(), limits={"requests": 100, "usd": 0.01}) is not None


def test_sums_of_many_small_amounts_reach_the_limit_and_not_beyond():
    book = BudgetBook()
    spent = {**NOTHING, "usd": 0.1}
    for _ in range(10):  # ten times 0.1 is less than 1.0 in floats
        assert granted(book, spent=NOTHING, least=spent, limits={"usd": 1.0}) is not None
        granted(book, spent=spent, least=None, limits={"usd": 1.0})
    assert granted(book, least=spent, limits={"usd": 1.0}) is None


class Members(RuleBasedStateMachine):
    """Members ask, send, settle, give back, die and leave in any order, against a server that charges."""

    LIMITS = {"requests": 20, "usd": 1.0}  # noqa: RUF012  hypothesis' classes are made once

    def __init__(self) -> None:
        super().__init__()
        self.book = BudgetBook()
        self.stock: dict[str, dict[str, float]] = {}
        self.flying: dict[str, list[dict[str, float]]] = {}
        self.unsaid: dict[str, dict[str, float]] = {}
        self.charged = Counter()

    names = st.sampled_from("abc")
    costs = st.builds(lambda usd: {"requests": 1, "tokens": 0, "usd": usd}, st.floats(0, 0.3))

    def held(self, name):
        total = NOTHING
        for cost in self.flying.get(name, ()):
            total = plus(total, cost)
        return total

    @rule(name=names, cost=costs)
    def asks(self, name, cost):
        said, self.unsaid[name] = self.unsaid.get(name, NOTHING), NOTHING
        got = self.book.exchange(name, spent=said, held=self.held(name), least=cost, limits=self.LIMITS)
        self.stock[name] = dict(got or NOTHING)

    @rule(name=names, cost=costs)
    def sends(self, name, cost):
        stock = self.stock.get(name)
        if stock is not None and covers(stock, cost, self.LIMITS):
            self.stock[name] = plus(stock, cost, -1)
            self.flying.setdefault(name, []).append(cost)
            self.charged.update(cost)  # at the worst

    @precondition(lambda self: any(self.flying.values()))
    @rule(name=names, share=st.floats(0, 1))
    def settles(self, name, share):
        if self.flying.get(name):
            cost = self.flying[name].pop()
            spent = {**cost, "usd": cost["usd"] * share}
            self.charged.subtract(plus(cost, spent, -1))
            self.stock[name] = plus(self.stock.get(name, NOTHING), plus(cost, spent, -1))
            self.unsaid[name] = plus(self.unsaid.get(name, NOTHING), spent)

    @rule(name=names)
    def dies(self, name):
        if name in self.book.held:
            self.book.lose(name)
        for state in (self.stock, self.flying, self.unsaid):
            state.pop(name, None)

    @rule(name=names)
    def leaves(self, name):
        if not self.flying.get(name):
            self.book.leave(name, self.unsaid.pop(name, NOTHING))
            self.stock.pop(name, None)

    @invariant()
    def the_server_never_charged_more_than_the_limit_or_than_the_book_says(self):
        for name, limit in self.LIMITS.items():
            assert self.charged[name] <= limit * (1 + 1e-6)
            assert self.charged[name] <= self.book.taken[name] + 1e-6


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- tariff -----------------------------------------------------------------------------------------------------------
TARIFF = Tariff(output_limit=10, price_usd=(1.0, 2.0))
WORST = TARIFF.worst(b"x" * 80)


def test_a_token_has_a_byte_at_least_and_a_reply_its_limit_at_most():
    assert {"requests": 1, "tokens": 90, "usd": pytest.approx(100e-6)} == WORST


@pytest.mark.parametrize(
    ("verdict", "requests", "tokens"),
    [
        (Verdict("final", "ok", billed=True, input_tokens=5, output_tokens=3), 1, 8),
        (Verdict("final", "ok", billed=True), 1, 90),
        (Verdict("final", "ok", billed=True, input_tokens=5), 1, 90),
        (Verdict("transient", code="reset", billed=True), 1, 90),
        (Verdict("transient", code="server_error"), 1, 0),
        (Verdict("throttled", code="rate_limited"), 1, 0),
        (Verdict("transient", code="connect", sent=False), 0, 0),
        (Verdict("transient", code="stalled", billed=True, sent=False), 1, 90),
    ],
)
def test_an_attempt_costs_what_the_server_says_else_the_worst_and_a_refused_one_only_its_request(
    verdict, requests, tokens
):
    charged = TARIFF.charged(verdict, WORST)
    assert (charged["requests"], charged["tokens"]) == (requests, tokens)


def test_without_a_price_no_dollars_are_counted():
    assert Tariff(output_limit=10, price_usd=None).worst(b"x")["usd"] == 0
