"""From columns to values and back, by position."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.errors import ConfigurationError, MissingColumnError
from curator_llm.frame.columns import attach, check_columns, table_of

_any_machine = settings(deadline=None, database=None, max_examples=50)

ADDED = [("o", "string[pyarrow]"), ("o__n", "Int64"), ("o__x", "Float64")]
VALUES = {"o": ["a", None], "o__n": [1, None], "o__x": [None, 0.5]}


def arrow(values: list[Any]) -> pd.Series:
    return pd.Series(values, dtype=pd.ArrowDtype(pa.array(values).type))


# --- to values --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pd.Series(["a", None]), ["a", None]),
        (pd.Series(["a", np.nan], dtype=object), ["a", None]),
        (pd.Series(["a", pd.NA], dtype="string[pyarrow]"), ["a", None]),
        (pd.Series(["a", None], dtype="category"), ["a", None]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series([1, 2], dtype="int8"), [1, 2]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (arrow([1, None]), [1, None]),
        (pd.Series([1.5, None]), [1.5, None]),
        (pd.Series([1.5, np.nan], dtype="Float64"), [1.5, None]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series([dt.date(2026, 11, 23), None]), [dt.date(2026, 11, 23), None]),
        (pd.Series(pd.to_datetime(["2026-11-23", None])), [pd.Timestamp("2026-11-23"), None]),
        (pd.Series([Decimal("1.5"), pd.NaT], dtype=object), [Decimal("1.5"), None]),
        (pd.Series([[1, 2], None]), [[1, 2], None]),
        (pd.Series([{"a": 1}, None]), [{"a": 1}, None]),
        (arrow([{"a": 1}, None]), [{"a": 1}, None]),
        (pd.Series([b"x", None]), [b"x", None]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_a_column_becomes_plain_values_with_none_for_any_null(column: pd.Series, values: list[Any]) -> None:
    found = table_of(pd.DataFrame({"c": column}), ["c"])["c"]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_lists_from_parquet_keep_their_items() -> None:
    first, second = table_of(pd.DataFrame({"c": arrow([[1, 2], None])}), ["c"])["c"]
    assert list(first) == [1, 2]
    assert second is None


def test_only_the_columns_asked_for_are_taken() -> None:
    frame = pd.DataFrame({"a": [1], "b": [2]})
    assert table_of(frame, ["b"]) == {"b": [2]}
    assert table_of(frame, []) == {}


def test_taking_values_leaves_the_frame_as_it_is() -> None:
    frame = pd.DataFrame({"c": pd.Series(["a", np.nan], dtype=object)})
    before = frame.copy(deep=True)
    table_of(frame, ["c"])
    pd.testing.assert_frame_equal(frame, before)


# --- and back ---------------------------------------------------------------------------------------------------------
def test_added_columns_have_their_declared_dtypes_and_stand_behind_the_others() -> None:
    frame = attach(pd.DataFrame({"text": ["x", "y"]}), ADDED, VALUES)
    assert list(frame.columns) == ["text", "o", "o__n", "o__x"]
    assert [str(dtype) for dtype in frame.dtypes[1:]] == ["string", "Int64", "Float64"]
    assert frame["o"].tolist() == ["a", pd.NA]
    assert frame["o__n"].tolist() == [1, pd.NA]


@pytest.mark.parametrize("values", [{"o": [], "o__n": [], "o__x": []}, {"o": [None], "o__n": [None], "o__x": [None]}])
def test_dtypes_are_the_same_for_no_rows_and_for_rows_without_values(values: dict[str, list[Any]]) -> None:
    empty = attach(pd.DataFrame({"text": ["x"] * len(values["o"])}), ADDED, values)
    full = attach(pd.DataFrame({"text": ["x", "y"]}), ADDED, VALUES)
    assert list(empty.dtypes[1:]) == list(full.dtypes[1:])


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([7, 7]),
        pd.Index([2, 1]),
        pd.Index([np.nan, np.nan]),
        pd.Index(["a", None], name="id"),
        pd.MultiIndex.from_tuples([(1, "x"), (1, "x")]),
        pd.CategoricalIndex(["b", "b"]),
        pd.DatetimeIndex(["2026-11-23", "2026-11-23"]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_values_go_by_position_whatever_the_index(index: pd.Index) -> None:
    frame = attach(pd.DataFrame({"text": ["x", "y"]}, index=index), ADDED, VALUES)
    assert frame.index.equals(index)
    assert frame.index.names == index.names
    assert frame["text"].tolist() == ["x", "y"]
    assert frame["o__x"].tolist() == [pd.NA, 0.5]


def test_input_columns_are_kept_as_they_are_also_equal_names_and_odd_ones() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=pd.Index(["a", "a", 5], name="names", dtype=object))
    added = attach(frame, [("o", "string[pyarrow]")], {"o": ["x"]})
    assert list(added.columns) == ["a", "a", 5, "o"]
    assert added.columns.name == "names"
    pd.testing.assert_frame_equal(added.iloc[:, :3], frame, check_column_type=False)


def test_older_columns_of_the_same_names_are_replaced() -> None:
    once = attach(pd.DataFrame({"text": ["x", "y"]}), ADDED, VALUES)
    again = attach(once, ADDED, {**VALUES, "o": ["new", "new"]})
    assert list(again.columns) == list(once.columns)
    assert again["o"].tolist() == ["new", "new"]


def test_a_frame_without_columns_gets_them_too() -> None:
    assert attach(pd.DataFrame(index=[5, 6]), ADDED, VALUES)["o"].tolist() == ["a", pd.NA]


def test_the_frame_that_was_given_is_not_changed() -> None:
    frame = pd.DataFrame({"text": ["x", "y"]})
    attach(frame, ADDED, VALUES)
    assert list(frame.columns) == ["text"]


@_any_machine
@given(st.lists(st.none() | st.text()), st.randoms(use_true_random=False))
def test_any_text_comes_out_as_it_went_in(texts: list[str | None], random: Any) -> None:
    index = [random.randint(0, 3) for _ in texts]
    frame = attach(pd.DataFrame({"n": range(len(texts))}, index=index), [("o", "string[pyarrow]")], {"o": texts})
    assert table_of(frame, ["o"])["o"] == texts
    assert frame.index.tolist() == index


# --- checks -----------------------------------------------------------------------------------------------------------
def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(MissingColumnError, match=r"'txt'.*\['text', '5'\]"):
        check_columns(pd.DataFrame({"text": [], 5: []}), ["txt"], "o", ["o", "o__status"])


def test_a_column_that_is_there_twice_cannot_be_read() -> None:
    with pytest.raises(ConfigurationError, match="'text', which the frame has 2 times"):
        check_columns(pd.DataFrame([[1, 2]], columns=["text", "text"]), ["text"], "o", ["o", "o__status"])


@pytest.mark.parametrize("taken", ["o", "o__error"])
def test_a_column_of_the_users_is_not_overwritten(taken: str) -> None:
    with pytest.raises(ConfigurationError, match=f"column '{taken}' already.*`output`"):
        check_columns(pd.DataFrame({"text": [], taken: []}), ["text"], "o", ["o", "o__status", "o__error"])


def test_a_column_that_the_stage_made_before_is_made_again() -> None:
    frame = pd.DataFrame({"text": [], "o": [], "o__status": [], "o__error": []})
    check_columns(frame, ["text"], "o", ["o", "o__status", "o__error"])


def test_a_column_cannot_be_read_and_written_by_one_stage() -> None:
    frame = pd.DataFrame({"text": [], "text__status": []})
    with pytest.raises(ConfigurationError, match="reads column 'text' and would write it"):
        check_columns(frame, ["text"], "text", ["text", "text__status"])
