"""The lease book: who holds how much of a scope's limits.

One rule keeps the sum below the cap whatever happens to messages: growth counts when it is granted, a shrink only when
the member reports it. Without a cluster the book has one member; on a cluster each worker's book holds a static share.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from curator_llm.limits.allowance import PERMITS


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
    """

    incarnation: str
    seq: int
    held: Mapping[str, float]
    want: Mapping[str, float]


class Grant(msgspec.Struct, frozen=True):
    """What a member may hold from now on; answers the report of the same `seq`."""

    seq: int
    amounts: Mapping[str, float]


class LeaseBook:
    """Shares out the limits of one scope, max-min fair by demand.

    Parameters
    ----------
    totals : mapping of str to float
        Size of each resource.
    """

    def __init__(self, totals: Mapping[str, float]) -> None:
        self.totals = dict(totals)
        self._reports: dict[str, Report] = {}
        self._held: dict[str, dict[str, float]] = {}

    def sync(self, report: Report) -> Grant | None:
        """Take a report and grant a share; None for a late or repeated report."""
        member = report.incarnation
        last = self._reports.get(member)
        if last is not None and report.seq <= last.seq:
            return None
        self._reports[member] = report
        self._held[member] = dict(report.held)
        amounts = {name: self._share(member, name) for name in self.totals}
        for name, amount in amounts.items():
            self._held[member][name] = max(amount, report.held.get(name, 0.0))
        return Grant(report.seq, amounts)

    def resize(self, totals: Mapping[str, float]) -> None:
        """Change the limits; members follow at their next report."""
        self.totals = dict(totals)

    def held(self, name: str) -> float:
        """Return how much all members may hold at this moment."""
        return sum(amounts.get(name, 0.0) for amounts in self._held.values())

    def _share(self, member: str, name: str) -> float:
        total = self.totals[name]
        wanted = {other: report.want.get(name, 0.0) for other, report in self._reports.items()}
        fair = _fill(wanted, total, whole=name == PERMITS)[member]
        others = sum(amounts.get(name, 0.0) for other, amounts in self._held.items() if other != member)
        return max(0.0, min(fair, total - others))


def _fill(wanted: Mapping[str, float], total: float, *, whole: bool) -> dict[str, float]:
    """Share `total` out, smallest demand first, what it leaves going to the larger ones."""
    left, shares = total, {}
    for index, member in enumerate(sorted(wanted, key=lambda name: (wanted[name], name))):
        even = left / (len(wanted) - index)
        shares[member] = min(wanted[member], even // 1 if whole else even)
        left -= shares[member]
    return shares
