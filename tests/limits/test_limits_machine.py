"""Members of one scope on a clock of our own: whatever is lost, late, repeated or dies, the limits hold, and go on."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS, Allowance
from curator_llm.limits.lease_book import VALID_S, Grant, LeaseBook, Report
from curator_llm.limits.resources import BURST_S

MEMBERS = 3
MOST_TOKENS = 200
MINUTE_S = 60.0
LONGEST_S = 20.0
#: Sums of floats are off by so much at most.
ROUNDING = 1e-6

_members = st.integers(0, MEMBERS - 1)
_pick = st.integers(0, 2) | st.integers(0, 50)


@dataclass
class Member:
    """A line that plays by the rules: it reports what it holds, and hears the answer to its last report alone."""

    incarnation: str
    now: float
    backlog: int = 0
    seq: int = 0
    amounts: dict[str, float] = field(default_factory=lambda: {PERMITS: 0, REQUESTS: 0, TOKENS: 0})
    flights: list[tuple[dict[str, float], float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.allowance = Allowance(self.amounts, self.now)
        self.reported_at = self.now

    def held(self, now: float) -> dict[str, float]:
        in_flight = self.allowance.permits.in_flight
        if now >= self.allowance.expires_at:
            return dict.fromkeys(self.amounts, 0.0) | {PERMITS: in_flight}
        return {**self.amounts, PERMITS: max(self.amounts[PERMITS], in_flight)}

    def report(self, now: float) -> Report:
        """Give back what is not wanted, and say what is held and wanted."""
        wanted = self.backlog + len(self.flights)
        want = {PERMITS: wanted, REQUESTS: 1e6 if wanted else 0, TOKENS: 1e6 if wanted else 0}
        self.grant({name: min(self.amounts[name], want[name]) for name in want}, now)
        self.seq += 1
        self.reported_at = now
        held = {**self.amounts, PERMITS: max(self.amounts[PERMITS], self.allowance.permits.in_flight)}
        return Report(self.incarnation, self.seq, held, want, longest_s=LONGEST_S)

    def hear(self, grant: Grant, now: float) -> None:
        if grant.seq == self.seq:
            self.allowance.expires_at = self.reported_at + VALID_S
            self.grant(dict(grant.amounts), now)

    def grant(self, amounts: dict[str, float], now: float) -> None:
        self.amounts = amounts
        self.allowance.grant(amounts, now)

    def start(self, tokens: int, now: float) -> float:
        """Start one request of the backlog; return 0, or how long to wait."""
        cost = self.allowance.cost(tokens)
        wait_s = self.allowance.take(cost, now)
        if wait_s == 0:
            self.backlog -= 1
            self.flights.append((cost, now))
        return wait_s


class Scope(RuleBasedStateMachine):
    """A book, members that share it, and messages between them that are lost, repeated and overtaken."""

    @initialize(permits=st.integers(1, 16), requests=st.integers(1, 300), tokens=st.integers(1, 30_000))
    def begin(self, permits: int, requests: int, tokens: int) -> None:
        self.totals = {PERMITS: permits, REQUESTS: requests, TOKENS: tokens}
        self.book = LeaseBook(self.totals)
        self.now = 0.0
        self.births = 0
        self.members = [self._born() for _ in range(MEMBERS)]
        self.dead: list[Member] = []
        self.removed: list[Member] = []
        self.reports: list[Report] = []
        self.grants: list[tuple[str, Grant]] = []
        self.starts: deque[tuple[float, float]] = deque()

    def _born(self) -> Member:
        self.births += 1
        return Member(str(self.births), self.now, backlog=50)

    # --- what happens -------------------------------------------------------------------------------------------------
    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        """No request takes longer than it may."""
        self.now += seconds
        for member in self.everybody:
            for cost, sent_at in [*member.flights]:
                if self.now - sent_at > LONGEST_S:
                    member.flights.remove((cost, sent_at))
                    member.allowance.settle(cost, None)

    @property
    def everybody(self) -> list[Member]:
        return [*self.members, *self.removed, *self.dead]

    @rule(number=_members, rows=st.integers(1, 20))
    def rows_arrive(self, number: int, rows: int) -> None:
        self.members[number].backlog += rows

    @rule(number=_members, tokens=st.integers(0, MOST_TOKENS), times=st.integers(1, 12))
    def requests_start(self, number: int, tokens: int, times: int) -> None:
        for _ in range(times):
            self._start(self.members[number], tokens)

    def _start(self, member: Member, tokens: int) -> float:
        if not member.backlog:
            return math.inf
        room = member.allowance.filled_by is None
        wait_s = member.start(tokens, self.now)
        if wait_s == 0:
            assert room
            assert len(member.flights) <= min(member.amounts[PERMITS], max(1.0, member.allowance.window.size))
            self.starts.append((self.now, tokens))
        elif not room:
            assert wait_s == math.inf
        return wait_s

    @rule(number=_members, pick=_pick, how=st.sampled_from(["ok", "ok", "ok", "throttled", "asked", "failed"]))
    def a_request_ends(self, number: int, pick: int, how: str) -> None:
        member = self.members[number]
        if member.flights:
            cost, sent_at = member.flights.pop(pick % len(member.flights))
            member.allowance.settle(cost, None)
            if how == "ok":
                member.allowance.succeeded(sent_at)
            elif how == "failed":
                member.allowance.failed(sent_at, self.now, spread=pick / 50)
            else:
                until = self.now + 2 * pick if how == "asked" else None
                member.allowance.throttled(sent_at, self.now, until, spread=pick / 50)

    @rule(number=_members, tokens=st.integers(0, MOST_TOKENS))
    def a_member_is_granted_a_share_and_uses_it(self, number: int, tokens: int) -> None:
        member = self.members[number]
        self._exchange(member)
        self._start_all(member, tokens)

    def _exchange(self, member: Member) -> None:
        member.hear(self._ask(member), self.now)

    def _ask(self, member: Member) -> Grant:
        self.reports.append(member.report(self.now))
        grant = self.book.sync(self.reports[-1], self.now)
        assert grant is not None
        self.grants.append((member.incarnation, grant))
        return grant

    @rule(number=_members)
    def an_answer_is_late(self, number: int) -> None:
        self._ask(self.members[number])

    @rule(number=_members, minutes=st.integers(1, 2))
    def a_member_works_as_fast_as_it_may(self, number: int, minutes: int) -> None:
        member = self.members[number]
        member.backlog += 1000
        self._exchange(member)
        for _ in range(30 * minutes):
            self._pass(2)
            self._start_all(member, 1)
            self.no_minute_has_more_than_the_quota_and_a_burst_of_each_member()
            self._end_all(member)
        member.backlog = 50

    def _start_all(self, member: Member, tokens: int) -> None:
        while member.backlog and self._start(member, tokens) == 0:
            pass

    def _end_all(self, member: Member) -> None:
        while member.flights:
            cost, sent_at = member.flights.pop()
            member.allowance.settle(cost, None)
            member.allowance.succeeded(sent_at)

    @rule(number=_members)
    def a_member_reports(self, number: int) -> None:
        self.reports.append(self.members[number].report(self.now))

    @precondition(lambda self: self.reports)
    @rule(pick=_pick)
    def a_report_arrives(self, pick: int) -> None:
        """It stays in the list: it may arrive again, and later than others."""
        report = self.reports[-1 - pick % len(self.reports)]
        grant = self.book.sync(report, self.now)
        if grant is not None:
            self.grants.append((report.incarnation, grant))

    @precondition(lambda self: self.grants)
    @rule(pick=_pick)
    def a_grant_arrives(self, pick: int) -> None:
        incarnation, grant = self.grants[-1 - pick % len(self.grants)]
        for member in [*self.members, *self.removed]:
            if member.incarnation == incarnation:
                member.hear(grant, self.now)

    @precondition(lambda self: self.reports or self.grants)
    @rule(pick=_pick)
    def a_message_is_lost(self, pick: int) -> None:
        lost = self.reports if self.reports and (pick % 2 or not self.grants) else self.grants
        lost.pop(-1 - pick % len(lost))

    @precondition(lambda self: len(self.starts) > 20 and len(self.dead) < 2)
    @rule(number=_members)
    def a_member_dies_and_starts_anew(self, number: int) -> None:
        """What it had in flight may still be at the server."""
        self.dead.append(self.members[number])
        self.dead[-1].allowance.expires_at = -math.inf
        self.members[number] = self._born()

    @precondition(lambda self: len(self.removed) < 3)
    @rule(number=_members)
    def a_member_that_is_at_work_is_taken_for_dead(self, number: int) -> None:
        """As when the network between it and the scheduler breaks: it does not know, and goes on while it may."""
        member = self.members[number]
        self.book.vanish(member.incarnation)
        self.removed.append(member)
        self.members[number] = self._born()

    @precondition(lambda self: self.removed)
    @rule(pick=_pick, tokens=st.integers(0, MOST_TOKENS))
    def one_taken_for_dead_goes_on(self, pick: int, tokens: int) -> None:
        self._start_all(self.removed[pick % len(self.removed)], tokens)

    @rule(number=_members)
    def a_member_leaves(self, number: int) -> None:
        member = self.members[number]
        self._end_all(member)
        self.book.leave(member.incarnation)
        self.reports = [report for report in self.reports if report.incarnation != member.incarnation]
        self.members[number] = self._born()

    # --- what holds ---------------------------------------------------------------------------------------------------
    @invariant()
    def together_they_never_hold_more_than_there_is(self) -> None:
        for name, total in self.totals.items():
            held = sum(member.held(self.now)[name] for member in self.everybody)
            assert held <= self.book.held(name) + ROUNDING
            assert held <= total + ROUNDING

    @invariant()
    def never_more_is_in_flight_than_the_cap(self) -> None:
        flights = sum(len(member.flights) for member in self.everybody)
        assert flights == sum(one.allowance.permits.in_flight for one in self.everybody)
        assert flights <= self.totals[PERMITS]

    @invariant()
    def no_minute_has_more_than_the_quota_and_a_burst_of_each_member(self) -> None:
        while self.starts and self.starts[0][0] < self.now - MINUTE_S:
            self.starts.popleft()
        bursts = self.births * max(1.0, self.totals[REQUESTS] * BURST_S / MINUTE_S)
        assert len(self.starts) <= self.totals[REQUESTS] + bursts + ROUNDING
        # One request of each member may be larger than its bucket, and leaves a debt.
        bursts = self.births * (max(1.0, self.totals[TOKENS] * BURST_S / MINUTE_S) + MOST_TOKENS)
        assert sum(tokens for _, tokens in self.starts) <= self.totals[TOKENS] + bursts + ROUNDING

    @precondition(lambda self: not self.dead and not self.removed)  # what they hold comes back later
    @precondition(lambda self: any(member.backlog for member in self.members))
    @rule()
    def once_messages_arrive_and_requests_end_something_starts(self) -> None:
        for member in self.members:
            self._end_all(member)
        for _ in range(4):
            for member in self.members:
                self._exchange(member)
        for _ in range(200):
            if any(self._start(member, 1) == 0 for member in self.members):
                return
            self._pass(2)
            for member in self.members:
                self._exchange(member)
        raise AssertionError("nothing is in flight, and nothing will ever start")


TestScope = Scope.TestCase
TestScope.settings = settings(max_examples=60, stateful_step_count=50, deadline=None, database=None)
