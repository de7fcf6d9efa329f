"""What holds after every run, whatever went wrong in it."""

from __future__ import annotations

import pandas as pd

from curator_llm import QueryModel, runtime
from curator_llm.journal.contents import contents
from curator_llm.testing import FakeServer, answer_to
from curator_llm.wire.exchange import STATUSES

#: Statuses that a second run does not ask again.
FINAL = {"ok", "truncated", "filtered", "refused", "empty", "invalid", "rejected", "skipped"}


def assert_run_invariants(frame: pd.DataFrame, out: pd.DataFrame, stage: QueryModel, server: FakeServer) -> None:
    """Check the promises on a pandas frame and what a stage with a `text` prompt and details made of it."""
    output = stage.spec.output
    status = out[f"{output}__status"]
    # 1 rows, index and inputs are those of the input
    pd.testing.assert_frame_equal(out[list(frame.columns)], frame)
    # 2 every row has one status of the closed list
    assert set(status) <= set(STATUSES)
    # 3 a good answer is the answer to this row's prompt
    good = out[status == "ok"]
    assert good[output].tolist() == [answer_to(text) for text in good["text"]]
    # 4 the dtypes are those that were promised before anything ran
    assert out.dtypes.equals(stage.meta(frame).dtypes)
    # 5 the journal has a clean record of each final outcome that was asked for
    runtime.close()
    counted = contents(stage.spec.journal_directory())
    assert (counted.damaged, counted.torn) == (0, 0)
    asked = out[status.isin(FINAL - {"skipped"})]
    assert counted.distinct == asked["text"].nunique()
    assert counted.final == counted.distinct  # paid once
    # 6 what the columns say was paid is what the server charged, but for replies that were lost on their way
    ledger = server.ledger
    for column, charged in (("input_tokens", ledger.input_tokens), ("output_tokens", ledger.output_tokens)):
        assert out.drop_duplicates("text")[f"{output}__{column}"].sum() <= charged
    # 7 nothing is left open
    server.wait_until(lambda ledger: ledger.in_flight == 0)
    # 8 a second run asks only for what has no final outcome, and gives the identical frame
    before = ledger.requests
    again = stage(frame)
    not_final = out[~status.isin(FINAL)]["text"].nunique()
    assert (server.ledger.requests == before) == (not_final == 0)
    if not not_final:
        pd.testing.assert_frame_equal(again, out)
