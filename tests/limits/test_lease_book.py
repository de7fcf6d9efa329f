"""The lease book: whatever happens to messages, members together never hold more than there is."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.limits.allowance import PERMITS, REQUESTS
from curator_llm.limits.lease_book import Grant, LeaseBook, Report

_any_machine = settings(deadline=None, database=None, max_examples=150)


def report(member: str, seq: int, *, held: float = 0, want: float = 100) -> Report:
    return Report(member, seq, {PERMITS: held}, {PERMITS: want})


def granted(grant: Grant | None) -> float:
    assert grant is not None
    return grant.amounts[PERMITS]


def test_one_member_gets_what_it_wants_up_to_all_there_is() -> None:
    book = LeaseBook({PERMITS: 8, REQUESTS: 600})
    grant = book.sync(Report("a", 0, {}, {PERMITS: 100, REQUESTS: 50}))
    assert grant == Grant(0, {PERMITS: 8, REQUESTS: 600}, short=(PERMITS,))


def test_what_nobody_wants_is_shared_evenly() -> None:
    book = LeaseBook({PERMITS: 8})
    for seq in range(2):
        shares = [granted(book.sync(report(name, seq, held=held, want=0))) for name, held in (("a", 4), ("b", 0))]
    assert shares == [4, 4], "a member that has work again begins without asking"


def test_growth_counts_when_it_is_granted() -> None:
    book = LeaseBook({PERMITS: 8})
    assert granted(book.sync(report("a", 0))) == 8
    assert book.held(PERMITS) == 8
    assert granted(book.sync(report("b", 0))) == 0


def test_a_shrink_counts_when_it_is_reported() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 0))
    book.sync(report("b", 0))
    assert granted(book.sync(report("a", 1, held=8))) == 4
    assert granted(book.sync(report("b", 1))) == 0, "a may still have eight in flight"
    assert granted(book.sync(report("a", 2, held=4))) == 4
    assert granted(book.sync(report("b", 2))) == 4


def test_what_is_in_flight_above_a_smaller_share_counts_as_held() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 0))
    book.sync(report("b", 0))
    book.sync(report("a", 1, held=7))
    assert book.held(PERMITS) == 7
    assert granted(book.sync(report("b", 1))) == 1


@pytest.mark.parametrize("seq", [4, 5])
def test_a_late_or_repeated_report_is_ignored(seq: int) -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 5))
    assert book.sync(report("a", seq, held=0, want=0)) is None
    assert book.held(PERMITS) == 8


def test_a_member_that_starts_anew_is_a_new_member() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a, first life", 5))
    assert granted(book.sync(report("a, second life", 0))) == 0


def test_a_grant_answers_the_report_of_its_number() -> None:
    grant = LeaseBook({PERMITS: 8}).sync(report("a", 17))
    assert grant is not None
    assert grant.seq == 17


def test_small_wishes_are_met_and_the_rest_is_shared() -> None:
    book = LeaseBook({PERMITS: 10})
    for seq in range(3):
        shares = [
            granted(book.sync(report(name, seq, held=0, want=want))) for name, want in (("a", 1), ("b", 99), ("c", 99))
        ]
    assert shares == [1, 5, 4]


@pytest.mark.parametrize(("total", "members"), [(1, 3), (7, 3), (256, 7), (5, 5), (3, 8)])
def test_whole_shares_add_up_to_all_there_is(total: int, members: int) -> None:
    book = LeaseBook({PERMITS: total})
    shares = dict.fromkeys(range(members), 0.0)
    for seq in range(4):
        for member in shares:
            shares[member] = granted(book.sync(report(str(member), seq, held=shares[member])))
    assert sum(shares.values()) == total
    assert all(share == int(share) for share in shares.values())
    assert max(shares.values()) - min(shares.values()) <= 1


def test_rates_are_shared_in_fractions() -> None:
    book = LeaseBook({REQUESTS: 100})
    for seq in range(3):
        shares = []
        for name in "abc":
            grant = book.sync(Report(name, seq, {REQUESTS: 100 / 3 if seq else 0}, {REQUESTS: 1e9}))
            assert grant is not None
            shares.append(grant.amounts[REQUESTS])
    assert shares == pytest.approx([100 / 3] * 3)


def test_who_has_not_heard_of_a_resource_holds_nothing_of_it() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 0))
    book.resize({PERMITS: 8, REQUESTS: 100})
    grant = book.sync(Report("b", 0, held={}, want={PERMITS: 1, REQUESTS: 100}))
    assert grant is not None
    assert grant.amounts == {PERMITS: 0, REQUESTS: 100}
    assert book.held(PERMITS) == 8


def test_members_follow_a_change_of_the_limits_at_their_next_report() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 0))
    book.resize({PERMITS: 4})
    assert granted(book.sync(report("a", 1, held=8))) == 4
    book.resize({PERMITS: 16})
    assert granted(book.sync(report("a", 2, held=4))) == 16


@dataclass
class Member:
    """A member that plays by the rules: it holds its cap or what is in flight, and hears only the latest answer."""

    name: str
    cap: int = 0
    in_flight: int = 0
    backlog: int = 0
    seq: int = 0
    sent: list[Report] = field(default_factory=list)

    @property
    def holds(self) -> int:
        return max(self.cap, self.in_flight)

    def ask(self) -> None:
        want = self.in_flight + self.backlog
        self.cap = min(self.cap, want)  # an idle member gives back before it speaks
        self.seq += 1
        self.sent.append(Report(self.name, self.seq, {PERMITS: self.holds}, {PERMITS: want}))

    def hear(self, grant: Grant) -> None:
        if grant.seq == self.seq:
            self.cap = int(grant.amounts[PERMITS])


_steps = st.lists(
    st.tuples(
        st.sampled_from(["work", "end", "ask", "arrive", "lose", "answer"]), st.integers(0, 2), st.integers(0, 9)
    ),
    max_size=250,
)


@_any_machine
@given(total=st.integers(1, 12), steps=_steps)
def test_members_never_hold_more_than_there_is_whatever_happens_to_messages(
    total: int, steps: list[tuple[str, int, int]]
) -> None:
    book = LeaseBook({PERMITS: total})
    members = [Member(str(number)) for number in range(3)]
    answers: list[tuple[Member, Grant]] = []
    for step, number, pick in steps:
        member = members[number]
        if step == "work":
            member.backlog += pick
        elif step == "end":
            member.in_flight = max(0, member.in_flight - pick)
        elif step == "ask":
            member.ask()
        elif step == "arrive" and member.sent:  # late, out of order, and again: it stays in the list
            grant = book.sync(member.sent[pick % len(member.sent)])
            if grant is not None:
                answers.append((member, grant))
        elif step == "lose" and member.sent:
            member.sent.pop(pick % len(member.sent))
        elif step == "answer" and answers:
            hearer, grant = answers[pick % len(answers)]
            hearer.hear(grant)
        started = min(member.backlog, max(0, member.cap - member.in_flight))
        member.in_flight += started
        member.backlog -= started
        assert sum(other.holds for other in members) <= total
        assert sum(other.holds for other in members) <= book.held(PERMITS) + 1e-9


def test_when_messages_arrive_all_permits_are_used() -> None:
    book = LeaseBook({PERMITS: 10})
    members = [Member(str(number), backlog=100) for number in range(3)]
    for _ in range(4):
        for member in members:
            member.ask()
            grant = book.sync(member.sent[-1])
            assert grant is not None
            member.hear(grant)
            member.in_flight = min(member.in_flight, member.cap)
    assert sum(member.cap for member in members) == 10


def test_a_member_that_leaves_frees_its_share_at_once() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 0))
    book.leave("a")
    assert granted(book.sync(report("b", 0))) == 8


def test_the_share_of_a_member_that_vanished_comes_back_when_its_last_request_must_have_ended() -> None:
    book = LeaseBook({PERMITS: 8, REQUESTS: 80})
    want = {PERMITS: 100, REQUESTS: 1e6}
    book.sync(Report("a", 0, {}, want, longest_s=600), now=10.0)
    book.vanish("a")
    for now, permits, rate in [(11.0, 0, 0), (69.0, 0, 0), (71.0, 0, 80), (669.0, 0, 80), (671.0, 8, 80)]:
        grant = book.sync(Report("b", int(now), {}, want, longest_s=600), now=now)
        assert grant is not None
        assert grant.amounts == {PERMITS: permits, REQUESTS: rate}, now


def test_a_member_that_was_taken_for_dead_and_reports_is_one_again() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(report("a", 0))
    book.vanish("a")
    assert granted(book.sync(report("a", 1, held=8), now=1_000.0)) == 8


def test_members_that_start_together_start_alike() -> None:
    book = LeaseBook({PERMITS: 9})
    shares = [granted(book.sync(report(name, 0), expected=2)) for name in "ab"]
    assert shares == [5, 4]


def test_the_lowest_limits_of_those_at_work_hold() -> None:
    book = LeaseBook({})
    limits = [{PERMITS: 9, REQUESTS: 60}, {PERMITS: 4}, {PERMITS: 2}]
    for name, want, known in zip("abc", (9, 9, 0), limits, strict=True):
        book.sync(Report(name, 0, {}, {PERMITS: want}, limits=known))
    assert book.totals == {PERMITS: 4, REQUESTS: 60}


def test_who_has_no_permit_has_its_turn() -> None:
    book = LeaseBook({PERMITS: 1})
    held = dict.fromkeys("abc", 0.0)
    turns = []
    for second in range(30):
        for name in held:
            held[name] = granted(book.sync(report(name, second, held=held[name]), now=float(second)))
        turns += [name for name, share in held.items() if share]
        assert sum(held.values()) <= 1
    assert set(turns) == set("abc")


def test_a_pause_that_one_member_was_asked_for_holds_for_all() -> None:
    book = LeaseBook({PERMITS: 8})
    book.sync(Report("a", 0, {}, {PERMITS: 8}, pause_s=5.0), now=10.0)
    grant = book.sync(report("b", 0), now=12.0)
    assert grant is not None
    assert grant.pause_s == 3.0


def test_throttling_that_members_tell_of_cuts_the_requests_of_all_once_for_each_burst() -> None:
    book = LeaseBook({PERMITS: 16})
    book.sync(report("a", 0), now=0.0, expected=2)
    book.sync(report("b", 0), now=0.0)
    throttled = [Report(name, 1, {PERMITS: 8}, {PERMITS: 100}, throttled=3) for name in "ab"]
    shares = [granted(book.sync(one, now=1.0)) for one in throttled]
    assert shares == [6, 6]
    answered = [Report(name, 2, {PERMITS: 6}, {PERMITS: 100}, answered=50) for name in "ab"]
    assert sum(granted(book.sync(one, now=2.0)) for one in answered) > 12, "good replies open it again"
