"""A few rows before all of them: what is asked, what comes back, what it costs; and several stages side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

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
    there = [name for name in names if name in answers.columns]
    return pd.concat([messages, answers[there].rename(columns=names)], axis=1)


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
    sums = {name: shown[name].sum(min_count=1) for name in _DETAILS if name in shown.columns}
    tokens, cost = [sums.get(name, pd.NA) for name in _DETAILS[:2]], sums.get("cost_usd", pd.NA)
    if not pd.isna(cost):
        said = f"{dollars(cost)}; at this rate {everything} cost {dollars(cost * factor)}"
    elif any(pd.isna(count) for count in tokens):
        said = "how many tokens they took, and what they cost, nobody says"
    else:
        used, all_used = (" and ".join(f"{count * by:,.0f}" for count in tokens) for by in (1, factor))
        said = f"{used} tokens in and out; at this rate {everything} take {all_used} (no price known)"
    return f"{output}: preview of {some}: {said}"


def compare(named: Mapping[str, Stage], sample: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Ask several stages about the same rows and return their replies side by side, rows that differ first.

    Parameters
    ----------
    named : mapping of str to Stage
        From `named_stages`.
    sample : pandas.DataFrame, n rows
    run : callable

    Returns
    -------
    pandas.DataFrame, n rows
        ``changed``, the columns the stages read, and for each stage its reply and ``<name>__status``.
    """
    columns = {}
    for name, stage in named.items():
        answers, output = run(stage.for_preview(()), sample[list(stage.spec.operation.inputs)]), stage.spec.output
        columns[name], columns[f"{name}__status"] = answers[output], answers[f"{output}__status"]
    changed = pd.Series(data=False, index=range(len(sample)))
    first = next(iter(named))
    for name in named:
        for suffix in ("", "__status"):
            one, other = (columns[f"{which}{suffix}"].reset_index(drop=True) for which in (first, name))
            changed |= (one != other).fillna(value=False).astype(bool) | (one.isna() != other.isna())
    beside = pd.DataFrame({"changed": changed.to_numpy()}, index=sample.index)
    replies = pd.DataFrame(columns, index=sample.index)
    return pd.concat([beside, sample, replies], axis=1).iloc[np.argsort(~changed.to_numpy(), kind="stable")]


def named_stages(stages: Mapping[str, Stage] | Iterable[Stage]) -> dict[str, Stage]:
    """Return stages by name: as given, else their outputs, numbered where two are equal.

    Raises
    ------
    ConfigurationError
        When there are fewer than two, or names that are columns of the comparison already.
    """
    if isinstance(stages, Mapping):
        named = dict(stages)
    else:
        several = list(stages)
        outputs = [stage.spec.output for stage in several]
        twice = len(set(outputs)) < len(outputs)
        names = [f"{output} {number}" if twice else output for number, output in enumerate(outputs, 1)]
        named = dict(zip(names, several, strict=True))
    if len(named) < 2:
        msg = "`stages` holds fewer than two stages: give a list or a dict of those to compare."
        raise ConfigurationError(msg)
    columns = [
        "changed",
        *inputs_of(named.values()),
        *(f"{name}{suffix}" for name in named for suffix in ("", "__status")),
    ]
    for name in columns:
        if columns.count(name) > 1:
            msg = f"Two columns of the comparison would be {name!r}: give the stages other names, as a dict."
            raise ConfigurationError(msg)
    return named


def inputs_of(stages: Iterable[Stage]) -> list[str]:
    """Return the columns that any of some stages reads."""
    return list(dict.fromkeys(name for stage in stages for name in stage.spec.operation.inputs))
