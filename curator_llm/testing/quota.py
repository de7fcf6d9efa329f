"""A quota per minute, as a server keeps it. Pure: the time is passed in."""

from __future__ import annotations


class Bucket:
    """Fills evenly up to its size; a request takes from it or is told how long to wait."""

    def __init__(self, per_minute: float, burst: float | None, now: float) -> None:
        self.per_minute = per_minute
        self._size = per_minute if burst is None else burst
        self.left = self._size
        self._at_s = now

    def take(self, amount: float, now: float) -> float:
        """Take an amount; give 0, or the seconds to wait when there is not enough."""
        self.left = min(self._size, self.left + (now - self._at_s) * self.per_minute / 60)
        self._at_s = now
        # A request larger than the whole bucket would wait for ever: it may pass when the bucket is full.
        needed = min(amount, self._size)
        if needed <= self.left + 1e-9:
            self.left -= needed
            return 0.0
        return (needed - self.left) * 60 / self.per_minute
