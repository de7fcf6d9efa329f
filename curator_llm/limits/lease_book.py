"""The lease book: who holds how much of a scope's limits. Pure; the clock is passed in.

One rule keeps the sum below the cap whatever happens to messages: growth counts when it is granted, a shrink only when
the member reports it. Of permits it holds what it may have in flight; of a per-minute quota a rate, which adds up in
the same way. Within a process the book has one member; on a cluster the coordinator keeps it for all workers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from curator_llm.limits.allowance import PERMITS
from curator_llm.limits.window import Window

#: A member starts nothing so long after the report that its last grant answers. A coordinator that is silent for less
#: delays nothing; what a vanished member holds comes back after this time and its longest request.
VALID_S = 60.0
#: Shares are worked out anew after so long, and when a member comes, goes, or begins or ends to want something.
TICK_S = 1.0
#: Where there are fewer permits than members, they go round in turns of so long.
TURN_S = 2.0


class Report(msgspec.Struct, frozen=True):
    """What a member says of itself.

    Attributes
    ----------
    incarnation : str
        New for each start of a member.
    seq : int
        Grows with each report; late and repeated ones are dropped.
    held : mapping of str to float
        What it holds now, or has in flight if that is more: the acknowledgement of a shrink.
    want : mapping of str to float
        What it could use.
    limits : mapping of str to float
        The size of each resource as its endpoints ask for; the lowest of all members holds. Empty: as the book has it.
    longest_s : float
        How long a request may take.
    answered, throttled : int
        Good replies, and 429 or 503, since the last report.
    pause_s : float
        For how long a server asked that nothing starts, from now on.
    """

    incarnation: str
    seq: int
    held: Mapping[str, float]
    want: Mapping[str, float]
    limits: Mapping[str, float] = {}
    longest_s: float = 0.0
    answered: int = 0
    throttled: int = 0
    pause_s: float = 0.0


class Grant(msgspec.Struct, frozen=True):
    """What a member may hold from now on.

    Attributes
    ----------
    seq : int
        Of the report that it answers.
    amounts : mapping of str to float
    short : tuple of str
        The resources of which members want more than there is: who needs less gives it back before its next report.
    pause_s : float
        For how long nothing is to start: a server asked another member for it.
    """

    seq: int
    amounts: Mapping[str, float]
    short: tuple[str, ...] = ()
    pause_s: float = 0.0


@dataclass
class Member:
    """What the book knows of a member."""

    last: Report
    held: dict[str, float]
    synced_at: float
    vanished: bool = False


class LeaseBook:
    """Shares out the limits of one scope, max-min fair by demand.

    Parameters
    ----------
    totals : mapping of str to float
        Size of each resource.

    Attributes
    ----------
    window : Window
        How many requests the server seems to bear from all members together.
    """

    def __init__(self, totals: Mapping[str, float]) -> None:
        self.totals = dict(totals)
        self.window = Window()
        self.members: dict[str, Member] = {}
        self._paused_until = -math.inf
        self._shares: dict[str, dict[str, float]] = {}  # by resource and member
        self._held: dict[str, float] = {}
        self._short: tuple[str, ...] = ()
        self._stale_at = -math.inf

    def sync(self, report: Report, now: float = 0.0, *, expected: int = 1) -> Grant | None:
        """Take a report and grant a share; None for a late or repeated report.

        Parameters
        ----------
        report : Report
        now : float
            Seconds of a monotonic clock.
        expected : int
            How many members there will be. While fewer have reported, a new one gets no more than its even share, so
            that members which start together start alike.
        """
        name, before = report.incarnation, self.members.get(report.incarnation)
        if before is not None and report.seq <= before.last.seq:
            return None
        member = self.members[name] = Member(report, dict(report.held), now)
        self._count(before, -1)
        self._count(member, 1)
        self._watch_server(report, before.synced_at if before else now, now)
        if now >= self._stale_at or before is None or before.vanished or _differ(report, before.last):
            self._share_out(now)
        amounts = {resource: self._grantable(name, resource) for resource in self.totals}
        if before is None and len(self.members) < expected:
            amounts = {resource: min(amount, self._even(resource, expected)) for resource, amount in amounts.items()}
        self._count(member, -1)
        for resource, amount in amounts.items():
            member.held[resource] = max(amount, report.held.get(resource, 0.0))
        self._count(member, 1)
        return Grant(report.seq, amounts, self._short, max(0.0, self._paused_until - now))

    def resize(self, totals: Mapping[str, float]) -> None:
        """Change the limits; members follow at their next report."""
        self.totals = dict(totals)
        self._stale_at = -math.inf

    def vanish(self, incarnation: str) -> None:
        """Take note that a member does not report any more; it may still be at work, so its share comes back later."""
        member = self.members.get(incarnation)
        if member is not None:
            member.vanished = True
            self._stale_at = -math.inf

    def leave(self, incarnation: str) -> None:
        """Take a member off that has nothing in flight and starts nothing: it said so, or its process is dead."""
        self._count(self.members.pop(incarnation, None), -1)
        self._stale_at = -math.inf

    def held(self, name: str) -> float:
        """Return how much all members may hold at this moment."""
        return self._held.get(name, 0.0)

    def _count(self, member: Member | None, sign: int) -> None:
        if member is not None:
            for name, amount in member.held.items():
                self._held[name] = self._held.get(name, 0.0) + sign * amount

    def _share_out(self, now: float) -> None:
        """Work out everybody's share: as often as members come and go, else once a second for all of them."""
        self._free_vanished(now)
        self._follow_limits()
        self._held = {}
        for member in self.members.values():
            self._count(member, 1)  # anew: sums of fractions drift
        self._shares = {resource: self._shares_of(resource, now) for resource in self.totals}
        self._short = tuple(name for name in self.totals if self._wanted(name) > self._available(name))
        self._stale_at = now + TICK_S

    def _free_vanished(self, now: float) -> None:
        for name, member in list(self.members.items()):
            if member.vanished and now > member.synced_at + VALID_S:
                member.held = {PERMITS: member.held.get(PERMITS, 0.0)}  # rates need no request to end
                if now > member.synced_at + VALID_S + member.last.longest_s:
                    del self.members[name]

    def _follow_limits(self) -> None:
        """Let the lowest limits hold of the members that are at work: those of idle ones may be of an earlier run."""
        present = [member.last for member in self.members.values() if not member.vanished and member.last.limits]
        at_work = [report for report in present if report.want.get(PERMITS)]
        said = [report.limits for report in at_work or present]
        if said:
            names = {name for limits in said for name in limits}
            self.totals = {name: min(limits[name] for limits in said if name in limits) for name in sorted(names)}

    def _watch_server(self, report: Report, since: float, now: float) -> None:
        """Let the window and the pauses of one member hold for all; it has acted upon its own already."""
        cap = int(self.totals.get(PERMITS, 0))
        if report.throttled:
            self.window.throttled(int(self.held(PERMITS)), since, now, cap=cap)
        for _ in range(min(report.answered, 2 * cap)):
            self.window.succeeded(cap)
        self._paused_until = max(self._paused_until, now + report.pause_s)

    def _available(self, resource: str) -> float:
        total = self.totals[resource]
        return min(total, self.window.size) if resource == PERMITS else total

    def _wanted(self, resource: str) -> float:
        return sum(self._wants(resource).values())

    def _even(self, resource: str, count: int) -> float:
        even = self.totals[resource] / count
        return math.ceil(even) if resource == PERMITS else even

    def _grantable(self, name: str, resource: str) -> float:
        """Return a member's share, as far as others have given back what they hold of it."""
        others = self.held(resource) - self.members[name].held.get(resource, 0.0)
        return max(0.0, min(self._shares[resource].get(name, 0.0), self.totals[resource] - others))

    def _shares_of(self, resource: str, now: float) -> dict[str, float]:
        """Share a resource out by demand, and what nobody wants evenly."""
        lost = sum(member.held.get(resource, 0.0) for member in self.members.values() if member.vanished)
        total = max(0.0, self._available(resource) - lost)
        shares = fill(self._wants(resource), total)
        if resource == PERMITS:
            shares = self._in_whole_permits(shares, now)
        spare = max(0.0, total - sum(shares.values())) / max(1, len(shares))
        return {name: share + (spare // 1 if resource == PERMITS else spare) for name, share in shares.items()}

    def _wants(self, resource: str) -> dict[str, float]:
        return {
            name: member.last.want.get(resource, 0.0) for name, member in self.members.items() if not member.vanished
        }

    @staticmethod
    def _in_whole_permits(shares: Mapping[str, float], now: float) -> dict[str, float]:
        """Round down, and give what is left to some, one each: where others have none at all, in turns."""
        whole = {name: share // 1 for name, share in shares.items()}
        left = int(sum(shares.values()) - sum(whole.values()) + 1e-6)
        cut = [name for name in sorted(shares) if shares[name] > whole[name]]
        if left and any(not whole[name] for name in cut):
            first = int(now // TURN_S) * left % len(cut)
            cut = cut[first:] + cut[:first]
        return whole | {name: whole[name] + 1 for name in cut[:left]}


def _differ(report: Report, before: Report) -> bool:
    """Tell whether a member begins or ends to want something, or asks for other limits."""
    began = any(bool(amount) != bool(before.want.get(name)) for name, amount in report.want.items())
    return began or report.limits != before.limits


def fill(wanted: Mapping[str, float], total: float) -> dict[str, float]:
    """Share `total` out, smallest demand first, what it leaves going to the larger ones.

    Examples
    --------
    >>> fill({"a": 1, "b": 99, "c": 99}, 10)
    {'a': 1, 'b': 4.5, 'c': 4.5}
    """
    left, shares = total, {}
    for index, member in enumerate(sorted(wanted, key=lambda name: (wanted[name], name))):
        shares[member] = min(wanted[member], left / (len(wanted) - index))
        left -= shares[member]
    return shares
