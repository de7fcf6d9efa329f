"""What a stage did to a frame, read from its columns: for people, in a notebook and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pandas as pd

from curator_llm.errors import ConfigurationError, MissingColumnError
from curator_llm.frame.counts import Counts
from curator_llm.frame.lines import dollars, summary_line
from curator_llm.spec.html import html_table
from curator_llm.spec.nearest import nearest
from curator_llm.wire.exchange import STATUSES

#: A stage is known by this column and the one of its errors.
_STATUS = "__status"
_SUMS = ("input_tokens", "output_tokens", "cost_usd")


@dataclass
class RunSummary:
    """How the rows of a stage ended.

    Attributes
    ----------
    output : str
        The stage's output column.
    counts : Counts
        Rows by status, failures by code.
    sums : dict of str to float
        Tokens and US dollars, as far as the stage's `details` have them and they are known. Rows that share a reply
        each count.

    Examples
    --------
    >>> df = pd.DataFrame({"topic__status": ["ok", "failed"], "topic__error": [None, "timeout: no reply"]})
    >>> RunSummary.of(df, "topic")
    topic: ok 1 · failed 1 (timeout 1)
    """

    output: str
    counts: Counts
    sums: dict[str, float]

    @classmethod
    def of(cls, frame: pd.DataFrame, output: str) -> Self:
        """Read a frame's columns."""
        columns = {name: f"{output}__{name}" for name in _SUMS if f"{output}__{name}" in frame.columns}
        sums = {name: frame[column].sum(min_count=1) for name, column in columns.items()}
        known = {name: float(total) for name, total in sums.items() if not pd.isna(total)}
        return cls(output, Counts.of(frame, output), known)

    def add(self, other: RunSummary) -> None:
        """Add another part of the same frame."""
        self.counts.add(other.counts)
        both = [name for name in _SUMS if name in self.sums or name in other.sums]
        self.sums = {name: self.sums.get(name, 0.0) + other.sums.get(name, 0.0) for name in both}

    def __repr__(self) -> str:
        return summary_line(
            self.output, self.counts.statuses, failures=self.counts.failures, cost_usd=self.sums.get("cost_usd")
        )

    def _repr_html_(self) -> str:
        """Return the counts as a table."""
        rows = max(1, self.counts.rows)
        shown: list[tuple[object, ...]] = [
            (status, f"{count:,}", f"{100 * count / rows:.1f} %")
            for status in STATUSES
            if (count := self.counts.statuses.get(status, 0))
        ]
        shown += [(f"… {code}", f"{count:,}", "") for code, count in self.counts.failures.most_common()]
        for name, total in self.sums.items():
            shown.append((name, dollars(total) if name == "cost_usd" else f"{total:,.0f}", ""))
        return html_table(f"{self.output}: {self.counts.rows:,} rows", shown)


def stage_output(columns: Sequence[object], output: str | None) -> str:
    """Return the stage's output column that is meant: the one named, else the only one there is.

    Raises
    ------
    MissingColumnError
        When no stage has written such a column.
    ConfigurationError
        When there are several and none is named.
    """
    names = [name for name in columns if isinstance(name, str)]
    ended = [name.removesuffix(_STATUS) for name in names if name.endswith(_STATUS) and names.count(name) == 1]
    found = [name for name in ended if names.count(f"{name}__error") == 1]
    if output is None and len(found) > 1:
        msg = f"The frame has the columns of {len(found)} stages: name one of {', '.join(map(repr, found))}."
        raise ConfigurationError(msg)
    if not found or (output is not None and output not in found):
        what = "of any stage" if output is None else f"of a stage {output!r}"
        msg = f"The frame has no columns {what}. {nearest(output or '', found) if found else 'Apply a stage first.'}"
        raise MissingColumnError(msg)
    return found[0] if output is None else output


def summary_columns(columns: Sequence[object], output: str) -> list[str]:
    """Return the columns a summary reads."""
    wanted = [f"{output}{suffix}" for suffix in (_STATUS, "__error", *(f"__{name}" for name in _SUMS))]
    return [name for name in wanted if name in columns]
