"""From pandas columns to Python values and back, by position: index values repeat on Dask, so nothing is aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd

from curator_llm.errors import ConfigurationError, MissingColumnError
from curator_llm.operations.base import DETAILS


def table_of(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return columns as lists of Python values, nulls of any kind as None."""
    return {name: _values(frame[name]) for name in names}


def attach(
    frame: pd.DataFrame, columns: Sequence[tuple[str, str]], values: Mapping[str, Sequence[Any]]
) -> pd.DataFrame:
    """Return the frame with columns added, their dtypes as declared; those of an earlier run are replaced."""
    names = [name for name, _ in columns]
    replaced = set(names)
    if f"{names[0]}__status" in frame.columns:  # details of the answers that are replaced would lie about the new ones
        replaced |= {f"{names[0]}__{suffix}" for suffix in DETAILS}
    kept = frame.drop(columns=[name for name in frame.columns if name in replaced])
    added = {name: pd.array(list(values[name]), dtype=cast("Any", dtype)) for name, dtype in columns}
    new = pd.DataFrame(added, index=frame.index, columns=pd.Index(names, name=frame.columns.name))
    return pd.concat([kept, new], axis=1)


def check_columns(frame: pd.DataFrame, inputs: Sequence[str], output: str, added: Sequence[str]) -> None:
    """Check that a stage fits a frame.

    Raises
    ------
    MissingColumnError
        When a column it reads is not there.
    ConfigurationError
        When it would overwrite a column that is not its own, or reads one that stands there twice.
    """
    names = list(frame.columns)
    for name in inputs:
        if name not in names:
            msg = f"The stage reads column {name!r}, which the frame does not have. Columns: {[str(n) for n in names]}."
            raise MissingColumnError(msg)
        if names.count(name) > 1:
            msg = f"The stage reads column {name!r}, which the frame has {names.count(name)} times: rename all but one."
            raise ConfigurationError(msg)
    both = [name for name in added if name in inputs]
    if both:
        msg = f"The stage reads column {both[0]!r} and would write it, too: pass another `output`."
        raise ConfigurationError(msg)
    clash = [name for name in added if name in names]
    if clash and f"{output}__status" not in names:
        msg = f"The frame has a column {clash[0]!r} already: pass another `output`, or drop the column first."
        raise ConfigurationError(msg)


def _values(series: pd.Series) -> list[Any]:
    values = series.astype(object).to_numpy(copy=True)
    values[series.isna().to_numpy()] = None
    return list(values)
