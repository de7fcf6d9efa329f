"""Filters: their grammar, which rows pass, and what cannot be compared."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from curator_llm.errors import JobFileError
from curator_llm.job.file.filters import Filter
from curator_llm.job.places import Place

PLACE = Place("job.yaml", "stages[1].filter")

FRAME = pd.DataFrame(
    {
        "label": pd.array(["a", "b", None, "c"], dtype="string[pyarrow]"),
        "score": pd.array([1, None, 3, 4], dtype="Int64"),
        "real": pd.array([0.5, 1.5, None, 2.5], dtype="Float64"),
        "day": [dt.date(2024, 1, 1), None, dt.date(2025, 1, 1), dt.date(2026, 1, 1)],
        "at": pd.to_datetime(["2024-01-01", None, "2025-01-01", "2026-01-01"], utc=True),
        "good": pd.array([True, False, None, True], dtype="boolean"),
        "any": [[1], {"a": 1}, None, "x"],
    }
)


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ({"column": "label", "in": ["a", "c"]}, [0, 3]),
        ({"column": "label", "not_in": ["a"]}, [1, 3]),
        ({"column": "label", "equals": "b"}, [1]),
        ({"column": "label", "is_null": True}, [2]),
        ({"column": "label", "is_null": False}, [0, 1, 3]),
        ({"column": "score", "above": 1}, [2, 3]),
        ({"column": "score", "below": 3.5}, [0, 2]),
        ({"column": "score", "in": [1, 4]}, [0, 3]),
        ({"column": "real", "above": 1}, [1, 3]),
        ({"column": "day", "above": dt.date(2024, 6, 1)}, [2, 3]),
        ({"column": "at", "below": dt.datetime(2025, 6, 1)}, [0, 2]),  # noqa: DTZ001  as YAML gives it
        ({"column": "good", "equals": True}, [0, 3]),
    ],
)
def test_a_filter_keeps_the_rows_that_pass_and_a_null_passes_is_null_alone(rule, rows):
    step = Filter.read(rule, PLACE)
    step.check(FRAME.iloc[:0])
    assert step(FRAME).index.tolist() == rows


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"in": ["a"]}, "`column` is missing"),
        ({"column": "label"}, "exactly one of"),
        ({"column": "label", "in": ["a"], "equals": "a"}, "`in` and `equals`"),
        ({"column": "label", "in": "a"}, "give a list such as [ok, truncated]"),
        ({"column": "label", "in": []}, "give a list"),
        ({"column": "label", "equals": None}, "use `is_null`"),
        ({"column": "label", "in": ["a", None]}, "use `is_null`"),
        ({"column": "score", "above": "much"}, "give a number or a date"),
        ({"column": "day", "in": [dt.date(2024, 1, 1)]}, "use `above` and `below`"),
        ({"column": "label", "is_null": "yes"}, "give true or false"),
        ({"column": "label", "equal": "a"}, "Did you mean 'equals'?"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(rule, said):
    with pytest.raises(JobFileError) as caught:
        Filter.read(rule, PLACE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"column": "lable", "equals": "a"}, "no column 'lable' here. Did you mean 'label'?"),
        ({"column": "label", "equals": 1}, "column 'label', which holds text, with 1"),
        ({"column": "label", "in": ["a", False]}, "put them in quotes"),
        ({"column": "score", "in": ["1"]}, "which holds numbers, with '1'"),
    ],
)
def test_a_filter_that_does_not_fit_its_column_is_refused_before_the_run(rule, said):
    with pytest.raises(JobFileError) as caught:
        Filter.read(rule, PLACE).check(FRAME.iloc[:0])
    assert said in str(caught.value)


def test_values_that_no_schema_foretells_are_an_error_of_ours():
    with pytest.raises(JobFileError, match="cannot be compared with 1"):
        Filter.read({"column": "any", "above": 1}, PLACE)(FRAME)
