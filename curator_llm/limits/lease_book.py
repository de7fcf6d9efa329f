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
        self._free_vanished(now)
        member = self.members[name] = Member(report, dict(report.held), now)
        self._follow_limits()
        self._watch_server(report, before.synced_at if before else now, now)
        amounts = {resource: self._share(name, resource, now) for resource in self.totals}
        if before is None and len(self.members) < expected:
            amounts = {resource: min(amount, self._even(resource, expected)) for resource, amount in amounts.items()}
        for resource, amount in amounts.items():
            member.held[resource] = max(amount, report.held.get(resource, 0.0))
        short = tuple(resource for resource in self.totals if self._wanted(resource) > self._available(resource))
        return Grant(report.seq, amounts, short, max(0.0, self._paused_until - now))

    def resize(self, totals: Mapping[str, float]) -> None:
        """Change the limits; members follow at their next report."""
        self.totals = dict(totals)

    def vanish(self, incarnation: str) -> None:
        """Take note that a member does not report any more; it may still be at work, so its share comes back later."""
        member = self.members.get(incarnation)
        if member is not None:
            member.vanished = True

    def leave(self, incarnation: str) -> None:
        """Take a member off that has nothing in flight and starts nothing: it said so, or its process is dead."""
        self.members.pop(incarnation, None)
        self._follow_limits()

    def held(self, name: str) -> float:
        """Return how much all members may hold at this moment."""
        return sum(member.held.get(name, 0.0) for member in self.members.values())

    def _free_vanished(self, now: float) -> None:
        for name, member in list(self.members.items()):
            if member.vanished and now > member.synced_at + VALID_S:
                member.held = {PERMITS: member.held.get(PERMITS, 0.0)}  # rates need no request to end
                if now > member.synced_at + VALID_S + member.last.longest_s:
                    self.leave(name)

    def _follow_limits(self) -> None:
        """Let the lowest limits hold of the members that are at work: those of idle ones may be of an earlier run."""
        present = [member.last for member in self.members.values() if not member.vanished and member.last.limits]
        said = [report.limits for report in present if report.want.get(PERMITS)] or [
            report.limits for report in present
        ]
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
        return sum(member.last.want.get(resource, 0.0) for member in self.members.values() if not member.vanished)

    def _even(self, resource: str, count: int) -> float:
        even = self.totals[resource] / count
        return math.ceil(even) if resource == PERMITS else even

    def _share(self, name: str, resource: str, now: float) -> float:
        wanted = {
            other: member.last.want.get(resource, 0.0) for other, member in self.members.items() if not member.vanished
        }
        lost = sum(member.held.get(resource, 0.0) for member in self.members.values() if member.vanished)
        total = max(0.0, self._available(resource) - lost)
        shares = fill(wanted, total)
        if resource == PERMITS:
            shares = self._in_whole_permits(shares, now)
        spare = max(0.0, total - sum(shares.values())) / len(shares)
        others = sum(member.held.get(resource, 0.0) for other, member in self.members.items() if other != name)
        share = shares[name] + (spare // 1 if resource == PERMITS else spare)
        return max(0.0, min(share, self.totals[resource] - others))

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
