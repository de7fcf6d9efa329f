"""`fail_on_error` in a job: counted over the whole stage, by the process that drives it."""

from __future__ import annotations

import pandas as pd
import pytest

from curator_llm.errors import RowsFailedError
from curator_llm.frame.counts import Counts
from curator_llm.job.failures import check_failures


def counts(**statuses: int) -> Counts:
    made = Counts()
    made.statuses.update(statuses)
    return made


@pytest.mark.parametrize(
    ("statuses", "allowed", "rows_to_come", "fails"),
    [
        ({"ok": 90, "failed": 10}, 0.1, 0, False),
        ({"ok": 89, "failed": 10}, 0.1, 0, True),
        ({"failed": 10}, 0.1, 90, False),
        ({"failed": 6, "rejected": 5}, 0.1, 90, True),
        ({"ok": 1, "failed": 2}, 3, 97, False),
        ({"ok": 1, "failed": 2, "rejected": 1}, 3, 96, True),
        ({"truncated": 50, "skipped": 50}, 1, 0, False),
        ({"failed": 50}, None, 0, False),
    ],
)
def test_a_share_fails_when_it_cannot_be_kept_and_a_count_when_it_is_reached(statuses, allowed, rows_to_come, fails):
    if fails:
        with pytest.raises(RowsFailedError):
            check_failures("topic", counts(**statuses), allowed, rows_to_come=rows_to_come)
    else:
        check_failures("topic", counts(**statuses), allowed, rows_to_come=rows_to_come)


@pytest.fixture
def refused(kit, monkeypatch):
    """Every request of the first of 6 pieces is refused."""
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 2)
    kit.server.change(faults=lambda prompt, _: "http:400" if prompt in {"Topic of text 0", "Topic of text 1"} else None)
    return kit


def stages(kit, allowed: float) -> list[dict]:
    return [{"query_model": {**kit.given["stages"][0]["query_model"], "fail_on_error": allowed}}]


def test_a_piece_that_fails_as_a_whole_is_not_the_stage(refused):
    assert refused.run(stages=stages(refused, 0.2)).exit_code == 0
    assert refused.output()["topic__status"].value_counts().to_dict() == {"ok": 10, "rejected": 2}


def test_too_many_over_all_pieces_end_the_run_with_4_and_what_was_answered_is_kept(refused):
    ending = refused.run(stages=stages(refused, 0.1), cluster={"threads_per_worker": 1})
    assert (ending.status, ending.exit_code) == ("rows_failed", 4)
    assert ending.message.startswith("topic: 2 of ")
    assert "`fail_on_error` is 0.1 (bad_request 2)" in ending.message
    assert not (refused.directory / "out").exists()
    assert refused.run(stages=stages(refused, 0.2)).exit_code == 0
    assert refused.server.ledger.requests == 12


def test_rows_that_a_filter_dropped_before_the_stage_do_not_count(refused):
    few = [{"filter": {"column": "id", "below": 4}}, *stages(refused, 0.4)]
    assert refused.run(stages=few).exit_code == 4


def test_a_count_ends_the_run_when_it_is_reached(refused):
    assert refused.run(stages=stages(refused, 2)).exit_code == 4
    assert refused.run(stages=stages(refused, 3)).exit_code == 0
    assert len(pd.read_parquet("out")) == 12
