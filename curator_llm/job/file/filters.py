"""The filter step of a job: keeps the rows whose value in one column passes one test."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from curator_llm.job.places import Place
from curator_llm.spec.nearest import nearest

OPERATORS: dict[str, Callable[[pd.Series, Any], pd.Series]] = {
    "in": lambda column, value: column.isin(value),
    "not_in": lambda column, value: ~column.isin(value) & column.notna(),
    "equals": lambda column, value: column == value,
    "above": lambda column, value: column > value,
    "below": lambda column, value: column < value,
    "is_null": lambda column, value: column.isna() if value else column.notna(),
}


@dataclass(frozen=True)
class Filter:
    """Keep the rows that pass. A null passes ``is_null: true`` and nothing else.

    Parameters
    ----------
    column : str
    operator : str
        A name in `OPERATORS`.
    value : object
        What the column is compared with.
    place : Place
        For errors.

    Examples
    --------
    >>> rows = pd.DataFrame({"score": pd.array([1, None, 3], dtype="Int64")})
    >>> Filter("score", "above", 1, Place("job.yaml"))(rows)["score"].tolist()
    [3]
    """

    column: str
    operator: str
    value: Any
    place: Place

    @classmethod
    def read(cls, value: Any, place: Place) -> Filter:
        """Make one from the values of a job file.

        Raises
        ------
        JobFileError
            When there is not exactly one operator, or its value cannot be compared with anything.
        """
        given = place.mapping(value, ["column", *OPERATORS], required=["column"])
        column = (place / "column").text(given["column"], "topic__status")
        operator = place.one_of(given, list(OPERATORS))
        return cls(column, operator, _operand(operator, given[operator], place / operator), place)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows that pass.

        Raises
        ------
        JobFileError
            When a value cannot be compared with the filter's.
        """
        column = frame[self.column]
        try:
            if isinstance(self.value, pd.Timestamp):
                column = pd.to_datetime(column, utc=True).dt.tz_localize(None)
            mask = OPERATORS[self.operator](column, self.value)
        except (TypeError, ValueError):
            msg = f"column {self.column!r} holds values that cannot be compared with {self.value!r}."
            raise self.place.error(msg) from None
        return frame[mask.fillna(value=False).astype(bool)]

    def check(self, meta: pd.DataFrame) -> None:
        """Check the filter against the columns it will meet.

        Raises
        ------
        JobFileError
            When the column is not there, or its values cannot be compared with the filter's.
        """
        if self.column not in meta.columns:
            msg = f"there is no column {self.column!r} here. {nearest(self.column, map(str, meta.columns))}"
            raise self.place.error(msg)
        dtype = meta[self.column].dtype
        kind = _kind_of_dtype(dtype)
        values = self.value if isinstance(self.value, list) else [self.value]
        for value in values:
            if self.operator != "is_null" and kind is not None and _kind_of_value(value) != kind:
                msg = f"compares column {self.column!r}, which holds {kind}, with {value!r}."
                if isinstance(value, bool):
                    msg += " YAML reads yes, no, on and off as true and false: put them in quotes."
                raise self.place.error(msg)


def _operand(operator: str, value: Any, place: Place) -> Any:
    """Check what a column is compared with."""
    if operator == "is_null":
        if not isinstance(value, bool):
            msg = f"is {value!r}: give true or false."
            raise place.error(msg)
        return value
    many = operator in {"in", "not_in"}
    values = value if isinstance(value, list) else [value]
    if many and (not isinstance(value, list) or not value):
        msg = f"is {value!r}: give a list such as [ok, truncated]."
        raise place.error(msg)
    for item in values:
        if _kind_of_value(item) is None:
            msg = f"is {value!r}: give text, numbers, dates, or true and false; for nulls use `is_null`."
            raise place.error(msg)
        if many and isinstance(item, dt.date):
            msg = f"is {value!r}: a list of dates is not supported; use `above` and `below`."
            raise place.error(msg)
        if operator in {"above", "below"} and _kind_of_value(item) not in {"numbers", "dates"}:
            msg = f"is {value!r}: give a number or a date."
            raise place.error(msg)
    if isinstance(value, dt.date):
        time = pd.Timestamp(value)
        return time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time
    return value


def _kind_of_value(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true and false"
    if isinstance(value, int | float):
        return "numbers"
    if isinstance(value, dt.date):
        return "dates"
    return "text" if isinstance(value, str) else None


def _kind_of_dtype(dtype: Any) -> str | None:
    """Say what a column holds; None when it may be anything."""
    if pd.api.types.is_bool_dtype(dtype):
        return "true and false"
    if pd.api.types.is_numeric_dtype(dtype):
        return "numbers"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "dates"
    return "text" if isinstance(dtype, pd.StringDtype) else None
