"""A purse: what an engine may spend of a budget at this moment. Lives on the engine's loop, like the lines.

It holds a small stock, out of which requests are paid for at their worst before they are sent; what they did not cost
comes back. When the stock is too small it asks the budget's book for more, off the loop. When that has nothing left,
and nothing in flight anywhere may come back, the budget is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from curator_llm.engine.spending import Exchanged, Spending
from curator_llm.errors import JournalError
from curator_llm.limits.budget_book import NOTHING, Amounts, covers, plus
from curator_llm.spec.budget import Budget
from curator_llm.wire.exchange import Skip

#: How often it looks whether other engines have given something back.
_LOOK_S = 0.25


class Purse:
    """What one engine may spend of one budget.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    budget : Budget
    spending : Spending
    failed : callable
        Told when the book cannot be kept; nothing more may be sent then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        budget: Budget,
        spending: Spending,
        failed: Callable[[JournalError], object],
    ) -> None:
        self._loop = loop
        self._spending = spending
        self._failed = failed
        self._stock: Amounts = NOTHING
        self._in_flight: Amounts = NOTHING
        self._unsaid: Amounts = NOTHING  # spent since the last exchange
        self._refused: Amounts | None = None
        self._asked: Amounts | None = None
        self._wakes: set[Callable[[], object]] = set()
        self._exchanging = False
        self._holds = False  # anything, as the book says
        self._timer: asyncio.TimerHandle | None = None
        self.budget = budget
        self._limits: Amounts = budget.limits

    def resize(self, budget: Budget) -> None:
        """Take other limits: a budget that was raised goes on."""
        if budget != self.budget:
            self.budget, self._limits, self._refused = budget, budget.limits, None

    def covers(self, cost: Amounts) -> bool:
        """Tell whether a request can be paid for now."""
        return covers(self._stock, cost, self._limits)

    def is_spent(self, cost: Amounts) -> bool:
        """Tell whether a request can never be paid for: the budget is reached."""
        return self._refused is not None and covers(cost, self._refused, self._limits)

    def ask(self, cost: Amounts, wake: Callable[[], object]) -> None:
        """Ask for enough to pay for a request; `wake` is called when there is news."""
        self._asked = cost
        self._wakes.add(wake)
        if not self._exchanging and self._timer is None:
            self._exchange()

    def take(self, cost: Amounts) -> None:
        """Pay for a request at its worst; `covers` was true."""
        self._stock, self._in_flight = plus(self._stock, cost, -1), plus(self._in_flight, cost)

    def settle(self, cost: Amounts, spent: Amounts) -> None:
        """Take back what a request did not cost."""
        left = plus(self._in_flight, cost, -1)
        self._in_flight = left if left["requests"] else NOTHING  # what rounding leaves would be waited for
        self._stock = plus(self._stock, plus(cost, spent, -1))
        self._unsaid = plus(self._unsaid, spent)
        if self._wakes and self._asked is not None and self.covers(self._asked):
            self._wake()
        elif not self._is_in_flight and not self._exchanging and self._wakes:
            self._exchange()  # what came back may be enough together with what the book has left
        self._give_back_later()

    @property
    def reached(self) -> Skip:
        """How a row ends that is not asked any more."""
        text = f"the budget {self.budget.name!r} of {self.budget} is reached: raise it and run again"
        return Skip("not_attempted", "budget", text)

    def close(self) -> None:
        """Give back what is left. Blocks; nothing may be in flight any more."""
        self._spending.close(None if self._exchanging else self._unsaid)

    @property
    def _is_in_flight(self) -> bool:
        return self._in_flight["requests"] > 0

    def _exchange(self) -> None:
        self._exchanging = True
        said, self._unsaid = self._unsaid, NOTHING
        self._stock = NOTHING  # given back; what comes back from flights meanwhile is new
        asked = self._asked if self._wakes else None
        was_idle = not self._is_in_flight
        job = asyncio.to_thread(
            self._spending.exchange, spent=said, held=self._in_flight, least=asked, limits=self._limits
        )
        task = self._loop.create_task(job)
        task.add_done_callback(lambda done: self._exchanged(done, said, asked, was_idle))

    def _exchanged(self, task: asyncio.Task[Exchanged], said: Amounts, asked: Amounts | None, was_idle: bool) -> None:
        if task.cancelled() or isinstance(task.exception(), RuntimeError):
            return  # the engine is closing
        self._exchanging = False
        error = task.exception()
        if error is not None:
            self._unsaid = plus(self._unsaid, said)
            self._wakes.clear()
            self._failed(error if isinstance(error, JournalError) else JournalError(f"The budget failed: {error}."))
            return
        answer = task.result()
        self._holds = not was_idle or answer.granted is not None
        if answer.granted is not None:
            self._stock, self._refused = plus(self._stock, answer.granted), None
            self._wake()
        elif asked is not None and was_idle and not answer.others_hold:
            self._refused = asked
            self._wake()
        elif self._wakes:
            self._look_later()
        self._give_back_later()

    def _wake(self) -> None:
        wakes, self._wakes, self._asked = self._wakes, set(), None
        for wake in wakes:
            wake()

    def _give_back_later(self) -> None:
        """See to it that others get what is not needed here: they wait as long as anything is held."""
        if self._holds and not self._is_in_flight:
            self._look_later()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._exchanging and (self._wakes or not self._is_in_flight):
            with contextlib.suppress(RuntimeError):  # the loop is closing
                self._exchange()
