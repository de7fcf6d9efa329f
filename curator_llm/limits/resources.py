"""The resources a request takes: a permit while it is in flight, and its share of per-minute quotas."""

from __future__ import annotations

import math
from typing import Protocol

#: A rate may be used ahead by this much; servers enforce minutes in windows of about a second.
BURST_S = 1.0


class Resource(Protocol):
    """Something a request takes before it is sent."""

    def wait_s(self, amount: float, now: float) -> float:
        """Return 0 when `amount` can be taken now, else the seconds until it can; inf until something comes back."""

    def take(self, amount: float) -> None:
        """Take it; `wait_s` was 0."""

    def settle(self, reserved: float, used: float) -> None:
        """Correct what was reserved by what was used."""

    def resize(self, amount: float, now: float) -> None:
        """Change the size."""

    @property
    def size(self) -> float:
        """How much there is: permits, or what flows in a minute."""


class Permits:
    """A gauge: how many requests may be in flight."""

    def __init__(self, cap: float) -> None:
        self.cap = int(cap)
        self.in_flight = 0

    @property
    def free(self) -> int:
        """Permits not in use; below zero after the cap shrank under what is in flight."""
        return self.cap - self.in_flight

    def wait_s(self, amount: float, now: float) -> float:
        """Return 0 or inf: a permit comes back when a request ends."""
        del now
        return 0.0 if self.in_flight + amount <= self.cap else math.inf

    def take(self, amount: float) -> None:
        """Put a request in flight."""
        self.in_flight += int(amount)

    def settle(self, reserved: float, used: float) -> None:
        """Give the permit back, whatever was used."""
        del used
        self.in_flight -= int(reserved)

    def resize(self, amount: float, now: float) -> None:
        """Change the cap; what is in flight stays."""
        del now
        self.cap = int(amount)

    @property
    def size(self) -> float:
        """The cap."""
        return self.cap


class Rate:
    """A bucket that fills with `per_minute` a minute.

    A request larger than the bucket starts when the bucket is full and leaves a debt, so that none waits for ever.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self.level = self._burst if per_minute else 0.0
        self._at = now

    @property
    def _burst(self) -> float:
        return max(1.0, self.per_minute * BURST_S / 60)

    def wait_s(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` has flowed in; inf while the rate is 0."""
        self._fill(now)
        missing = min(amount, self._burst) - self.level
        if missing <= 1e-9 and self.per_minute:
            return 0.0
        return missing * 60 / self.per_minute if self.per_minute else math.inf

    def take(self, amount: float) -> None:
        """Take it, into debt if it must be."""
        self.level -= amount

    def settle(self, reserved: float, used: float) -> None:
        """Return what was reserved and not used; owe what was used beyond."""
        self.level = min(self._burst, self.level + reserved - used)

    def resize(self, amount: float, now: float) -> None:
        """Change the rate, what has flowed in so far kept."""
        self._fill(now)
        self.per_minute = amount
        self.level = min(self.level, self._burst)

    @property
    def size(self) -> float:
        """What flows in a minute."""
        return self.per_minute

    def _fill(self, now: float) -> None:
        self.level = min(self._burst, self.level + max(0.0, now - self._at) * self.per_minute / 60)
        self._at = max(self._at, now)
