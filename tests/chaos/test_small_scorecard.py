"""The checks of the scorecard that are quick enough, in their small form; ``make reliability`` runs all in full."""

from __future__ import annotations

import pytest

from tests.chaos.scorecard import Check, Setting, all_checks


@pytest.mark.parametrize("check", [check for check in all_checks() if check.in_tests], ids=lambda check: check.id)
def test_every_figure_of_the_small_scorecard_reaches_its_mark(check: Check, tmp_path):
    figures = list(check.figures(Setting(small=True, seed=1, scratch=tmp_path)))
    assert [str(figure) for figure in figures if not figure.passed] == []
    assert figures
