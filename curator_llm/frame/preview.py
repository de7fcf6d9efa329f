"""A few rows before all of them: what is asked, what comes back, what it costs; and several stages side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from curator_llm.errors import ConfigurationError
from curator_llm.frame.columns import table_of
from curator_llm.frame.lines import counted, dollars
from curator_llm.frame.rendering import messages_text
from curator_llm.frame.stages import Stage
from curator_llm.wire.exchange import Request

#: Applies a stage to sampled rows, where the user's rows are answered.
Run = Callable[[Stage, pd.DataFrame], pd.DataFrame]

_DETAILS = ("input_tokens", "output_tokens", "cost_usd")
_PER_ROWS = 1_000


def spread(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return `n` rows from everywhere in a frame, the first and the last among them; always the same ones.

    Examples
    --------
    >>> spread(pd.DataFrame({"a": range(9)}), 3)["a"].tolist()
    [0, 4, 8]
    """
    positions = np.unique(np.linspace(0, len(frame) - 1, min(n, len(frame))).round().astype(int))
    return frame.iloc[positions]


def preview(stage: Stage, sample: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Ask a stage about sampled rows and return what was said, a row each.

    Parameters
    ----------
    stage : Stage
    sample : pandas.DataFrame, n rows
    run : callable

    Returns
    -------
    pandas.DataFrame, n rows
        ``messages`` (as sent), ``reply``, ``status``, ``error``, ``input_tokens``, ``output_tokens``, ``cost_usd``.
    """
    output, operation = stage.spec.output, stage.spec.operation
    answers = run(stage.for_preview(_DETAILS), sample)
    requests = operation.requests(table_of(sample, operation.inputs), len(sample))
    texts = [messages_text(request.body) if isinstance(request, Request) else None for request in requests]
    messages = pd.DataFrame({"messages": texts}, index=sample.index, dtype="string[pyarrow]")
    names = {output: "reply", **{f"{output}__{name}": name for name in ("status", "error", *_DETAILS)}}
    return pd.concat([messages, answers[list(names)].rename(columns=names)], axis=1)


def rate_line(shown: pd.DataFrame, output: str, rows: int | None) -> str:
    """Return what a preview says about the price of all rows.

    Parameters
    ----------
    shown : pandas.DataFrame
        From `preview`.
    output : str
    rows : int or None
        Of the whole frame, None when that is not known.

    Examples
    --------
    >>> shown = pd.DataFrame({"input_tokens": [90, 110], "output_tokens": [10, 10], "cost_usd": [0.001, 0.002]})
    >>> rate_line(shown, "topic", 300_000)
    'topic: preview of 2 rows: $0.003; at this rate 300,000 rows cost $450.00'
    """
    of_all = _PER_ROWS if rows is None else rows
    factor = of_all / max(1, len(shown))
    some, everything = counted(len(shown), "row"), counted(of_all, "row")
    cost = shown["cost_usd"].sum(min_count=1)
    if not pd.isna(cost):
        said, at_this_rate = dollars(cost), f"{everything} cost {dollars(cost * factor)}"
    else:
        tokens = [int(shown[name].sum()) for name in _DETAILS[:2]]
        said = f"{tokens[0]:,} input and {tokens[1]:,} output tokens"
        at_this_rate = f"{everything} take {tokens[0] * factor:,.0f} and {tokens[1] * factor:,.0f} (no price known)"
    return f"{output}: preview of {some}: {said}; at this rate {at_this_rate}"


def compare(stages: Mapping[str, Stage] | Sequence[Stage], sample: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Ask several stages about the same rows and return their replies side by side, rows that differ first.

    Returns
    -------
    pandas.DataFrame, n rows
        ``changed``, the columns the stages read, and for each stage its reply and ``<name>__status``.

    Raises
    ------
    ConfigurationError
        When there are fewer than two stages.
    """
    named = _named(stages)
    inputs = list(dict.fromkeys(name for stage in named.values() for name in stage.spec.operation.inputs))
    columns = {}
    for name, stage in named.items():
        answers, output = run(stage.for_preview(()), sample), stage.spec.output
        columns[name], columns[f"{name}__status"] = answers[output], answers[f"{output}__status"]
    changed = pd.Series(data=False, index=range(len(sample)))
    first = next(iter(named))
    for name in named:
        for suffix in ("", "__status"):
            one, other = (columns[f"{which}{suffix}"].reset_index(drop=True) for which in (first, name))
            changed |= (one != other).fillna(value=False).astype(bool) | (one.isna() != other.isna())
    beside = pd.DataFrame({"changed": changed.to_numpy()}, index=sample.index)
    replies = pd.DataFrame(columns, index=sample.index)
    return pd.concat([beside, sample[inputs], replies], axis=1).iloc[np.argsort(~changed.to_numpy(), kind="stable")]


def _named(stages: Mapping[str, Stage] | Sequence[Stage]) -> dict[str, Stage]:
    """Return the stages by name: as given, else their outputs, numbered where two are equal."""
    if isinstance(stages, Mapping):
        named = dict(stages)
    else:
        outputs = [stage.spec.output for stage in stages]
        twice = len(set(outputs)) < len(outputs)
        named = {
            f"{output} {number}" if twice else output: stage
            for number, (output, stage) in enumerate(zip(outputs, stages, strict=True), 1)
        }
    if len(named) < 2:
        msg = "`stages` holds fewer than two stages: give a list or a dict of those to compare."
        raise ConfigurationError(msg)
    return named
