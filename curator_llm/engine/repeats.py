"""Whether nearly all that a server says of late is one and the same rejection: then it is the run that is wrong.

Rejections cost nothing but time, and a run that stops for no reason costs a night: so nine in ten of the last requests
must say the same, and what is plainly about a row, such as its length, does not count.
"""

from __future__ import annotations

from collections import Counter, deque


class Repeats:
    """The last outcomes of a line.

    Parameters
    ----------
    size : int
        How many are looked at; with 0 nothing is a repeat.

    Examples
    --------
    >>> repeats = Repeats(4)
    >>> [repeats.add(code) for code in ["bad_request"] * 4]
    [False, False, False, True]
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._last: deque[str | None] = deque()
        self._counts: Counter[str] = Counter()

    def add(self, code: str | None) -> bool:
        """Take the code of a rejection, or None for any other outcome; tell whether one code has nine in ten."""
        if not self.size:
            return False
        self._last.append(code)
        if len(self._last) > self.size:
            oldest = self._last.popleft()
            if oldest is not None:
                self._counts[oldest] -= 1
        if code is None:
            return False
        self._counts[code] += 1
        return len(self._last) == self.size and 10 * self._counts[code] >= 9 * self.size
