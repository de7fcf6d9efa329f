"""What a line of the scorecard is made of: figures, each with the mark it has to reach."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

CHECKS = Path(__file__).with_name("checks")


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something measured, and what it has to be; a figure without a mark is told and judged by nobody.

    Examples
    --------
    >>> str(Figure("requests per row", 1.43, at_most=1.5)), Figure("rows lost", 1, equals=0).passed
    ('requests per row: 1.43 (<= 1.5)', False)
    """

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None
    equals: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the mark is reached."""
        return (
            (self.at_most is None or self.value <= self.at_most)
            and (self.at_least is None or self.value >= self.at_least)
            and (self.equals is None or self.value == self.equals)
        )

    @property
    def mark(self) -> str:
        """The mark as text."""
        marks = (("<=", self.at_most), (">=", self.at_least), ("=", self.equals))
        return " and ".join(f"{sign} {mark:,.6g}" for sign, mark in marks if mark is not None) or "-"

    def __str__(self) -> str:
        return f"{self.name}: {self.value:,.6g} ({self.mark})"


@dataclass(frozen=True)
class Setting:
    """How a check is run.

    Parameters
    ----------
    small : bool
        Whether as a part of the tests, in a few seconds, or as a part of the scorecard.
    seed : int
        Of whatever is drawn.
    scratch : Path
        An empty directory.
    """

    small: bool
    seed: int
    scratch: Path

    def size(self, *, small: int, full: int) -> int:
        """Return the size of the two that holds here."""
        return small if self.small else full


@dataclass(frozen=True)
class Check:
    """A line of the scorecard: a module of ``checks/`` with ID, TITLE, IN_TESTS and ``figures(setting)``."""

    id: str
    title: str
    in_tests: bool
    figures: Callable[[Setting], Iterator[Figure]]


def all_checks() -> list[Check]:
    """Return the checks there are, in the order of their numbers."""
    modules = [importlib.import_module(f"tests.chaos.checks.{path.stem}") for path in sorted(CHECKS.glob("[a-z]*.py"))]
    checks = [Check(module.ID, module.TITLE, module.IN_TESTS, module.figures) for module in modules]
    return sorted(checks, key=lambda check: int(check.id[1:]))
