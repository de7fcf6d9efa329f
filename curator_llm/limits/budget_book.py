"""The budget book: what was spent of a budget, and what its members hold. Pure; who keeps it, and how, is not its job.

A member holds what its requests in flight may cost at the worst, and a little ahead. What a member holds when it
disappears counts as spent: its requests may have been charged for. So the sum never exceeds a limit, whatever happens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

#: Requests, tokens and US dollars.
Amounts = Mapping[str, float]
AMOUNTS = ("requests", "tokens", "usd")
NOTHING: Amounts = dict.fromkeys(AMOUNTS, 0.0)
#: A member is granted this share of what is left, so that it asks some hundred times in a run and little is lost.
_AHEAD = 1 / 400
#: Sums of floats may be off by so much of a limit.
_ROUNDING = 1e-9


def plus(one: Amounts, other: Amounts, sign: int = 1) -> dict[str, float]:
    """Return the sum, or with `sign` -1 the difference."""
    return {name: one[name] + sign * other[name] for name in AMOUNTS}


def covers(stock: Amounts, cost: Amounts, limits: Amounts) -> bool:
    """Tell whether a stock is enough for a cost, in all that is limited."""
    return all(cost[name] <= stock[name] + _ROUNDING * limit for name, limit in limits.items())


class BudgetBook(msgspec.Struct):
    """What was spent of a budget and what its members hold.

    Attributes
    ----------
    spent : dict of str to float
    held : dict of str to dict of str to float
        By member.

    Examples
    --------
    >>> book, limits = BudgetBook(), {"requests": 10}
    >>> cost = {"requests": 1, "tokens": 50, "usd": 0.1}
    >>> book.exchange("one", spent=NOTHING, held=NOTHING, least=cost, limits=limits)["requests"]
    1
    >>> book.lose("one")
    >>> book.spent["requests"]
    1.0
    """

    spent: dict[str, float] = msgspec.field(default_factory=lambda: dict(NOTHING))
    held: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)

    def exchange(
        self, member: str, *, spent: Amounts, held: Amounts, least: Amounts | None, limits: Amounts
    ) -> Amounts | None:
        """Take a member's account and grant it more.

        Parameters
        ----------
        member : str
        spent : Amounts
            Since its last exchange.
        held : Amounts
            What its requests in flight may cost; all else that it held it gives back.
        least : Amounts or None
            What it needs to go on; None when it needs nothing.
        limits : Amounts
            Of the budget; what is not named is not limited.

        Returns
        -------
        Amounts or None
            What it may spend beside `held`, `least` or more; None when there is not so much.
        """
        self.spent = plus(self.spent, spent)
        self.held[member] = dict(held)
        if least is None:
            return None
        left = self.left(limits)
        if not covers(left, least, limits):
            return None
        granted = {name: max(least[name], _AHEAD * left[name]) if name in limits else least[name] for name in AMOUNTS}
        self.held[member] = plus(held, granted)
        return granted

    def left(self, limits: Amounts) -> dict[str, float]:
        """Return what nobody has spent or holds."""
        taken = self.taken
        return {name: limits.get(name, 0.0) - taken[name] for name in AMOUNTS}

    @property
    def taken(self) -> dict[str, float]:
        """What was spent, and what members hold."""
        return functools.reduce(plus, self.held.values(), self.spent)

    def lose(self, member: str) -> None:
        """Take a member off that has disappeared: what it held may have been spent."""
        self.spent = plus(self.spent, self.held.pop(member))

    def leave(self, member: str, spent: Amounts) -> None:
        """Take a member off that has nothing in flight."""
        self.spent = plus(self.spent, spent)
        self.held.pop(member, None)
