"""The page about failures names the checks that there are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.scorecard import all_checks


def test_the_page_names_every_check_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bR\d+\b", page))
    assert named == {check.id for check in all_checks()}
