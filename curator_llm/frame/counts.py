"""How the rows of a stage ended, counted from its columns: what a summary says is what a user sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pandas as pd

#: Rows that end so have a code worth counting.
_FAILURES = frozenset({"failed", "rejected", "skipped"})


def too_many(bad: int, rows: int, allowed: float | None) -> bool:
    """Say whether so many failed and rejected rows of `rows` fail a stage: by share (below 1), or by count.

    Examples
    --------
    >>> too_many(10, 100, 0.1), too_many(11, 100, 0.1), too_many(10, 100, 10), too_many(10, 100, None)
    (False, True, True, False)
    """
    if allowed is None or not bad:
        return False
    return bad > allowed * rows if allowed < 1 else bad >= allowed


@dataclass
class Counts:
    """How the rows of a stage ended.

    Attributes
    ----------
    statuses : Counter of str
        Rows by status.
    failures : Counter of str
        Failed, rejected and skipped rows by code.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return self.statuses.total()

    @classmethod
    def of(cls, frame: pd.DataFrame, output: str) -> Counts:
        """Count the rows of a stage's frame."""
        statuses = frame[f"{output}__status"]
        errors = frame[f"{output}__error"][statuses.isin(_FAILURES)]
        return cls(Counter(statuses), Counter(error.partition(":")[0] for error in errors))

    def add(self, other: Counts) -> None:
        """Add another frame's counts."""
        self.statuses.update(other.statuses)
        self.failures.update(other.failures)
