"""How many rows of a stage may fail: counted over all pieces, by the one process that sees them all."""

from __future__ import annotations

from curator_llm.errors import RowsFailedError
from curator_llm.frame.counts import Counts, too_many


def check_failures(output: str, counts: Counts, allowed: float | None, *, rows_to_come: int) -> None:
    """Check that a stage has not failed.

    Parameters
    ----------
    output : str
        Of the stage.
    counts : Counts
        Its rows so far.
    allowed : float or None
        Share (below 1) or count of rows; None for any number.
    rows_to_come : int
        Rows it may still get.

    Raises
    ------
    RowsFailedError
        When the count is reached, or the share cannot be kept whatever is to come.

    Examples
    --------
    >>> counts = Counts()
    >>> counts.statuses.update(ok=50, failed=10)
    >>> check_failures("topic", counts, 0.1, rows_to_come=40)
    >>> check_failures("topic", counts, 10, rows_to_come=40)
    Traceback (most recent call last):
    curator_llm.errors.RowsFailedError: topic: 10 of 60 rows failed or were rejected, and `fail_on_error` is 10...
    """
    bad = counts.statuses["failed"] + counts.statuses["rejected"]
    if allowed is not None and too_many(bad, counts.rows + rows_to_come, allowed):
        codes = ", ".join(f"{code} {count:,}" for code, count in counts.failures.most_common(3))
        msg = (
            f"{output}: {bad:,} of {counts.rows:,} rows failed or were rejected, and `fail_on_error` is {allowed:g} "
            f"({codes}). Their replies and those of the others are kept: run again to ask only for the missing ones."
        )
        raise RowsFailedError(msg)
