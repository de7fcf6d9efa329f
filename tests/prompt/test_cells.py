"""The text of a cell, whatever stands in it."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.prompt.cells import NULL_INPUT, cell_texts
from curator_llm.wire.exchange import Skip

_any_machine = settings(deadline=None, database=None, max_examples=100)


class Colour(enum.StrEnum):
    RED = "red"


class OldColour(str, enum.Enum):  # noqa: UP042  the older form is in use, and its str() is "OldColour.RED"
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError


def text(value: object) -> str | Skip:
    return cell_texts([value])[0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("as it is\n ", "as it is\n "),
        ("", ""),
        ("{name}", "{name}"),
        (3, "3"),
        (-(10**30), "-1" + "0" * 30),
        (0.1, "0.1"),
        (2.0, "2.0"),
        (1e22, "1e+22"),
        (float("inf"), "inf"),
        (True, "True"),
        (dt.date(2026, 11, 23), "2026-11-23"),
        (dt.datetime(2026, 11, 23, 4, 5, tzinfo=dt.UTC), "2026-11-23T04:05:00+00:00"),
        (dt.time(4, 5), "04:05:00"),
        (pd.Timestamp("2026-11-23 04:05:06"), "2026-11-23T04:05:06"),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "red"),
        (OldColour.RED, "red"),
        (Level.HIGH, "3"),
    ],
)
def test_a_value_has_the_text_that_stands_for_it(value: object, shown: str) -> None:
    assert text(value) == shown


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(7), 7),
    ],
)
def test_a_numpy_scalar_has_the_text_of_the_plain_value(value: object, plain: object) -> None:
    assert text(value) == text(plain)


def test_a_numpy_time_keeps_its_unit() -> None:
    assert text(np.datetime64("2026-11-23T04:05:06", "ns")) == "2026-11-23T04:05:06.000000000"
    assert text(np.array(["2026-11-23"], dtype="datetime64[D]")) == '["2026-11-23"]'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, 2.5, "ä", None, True], '[1,2.5,"ä",null,true]'),
        ((1, 2), "[1,2]"),
        ({"b": 1, "a": {"d": [], "c": None}}, '{"a":{"c":null,"d":[]},"b":1}'),
        (np.array([1, 2]), "[1,2]"),
        (np.array([[1.5], [2.5]]), "[[1.5],[2.5]]"),
        (np.array([{"b": np.float64(1), "a": np.array(["x"])}], dtype=object), '[{"a":["x"],"b":1.0}]'),
        ([dt.date(2026, 11, 23)], '["2026-11-23"]'),
        ([pd.Timestamp("2026-11-23"), pd.NaT], '["2026-11-23T00:00:00",null]'),
        ([float("nan")], "[null]"),
        ([], "[]"),
    ],
)
def test_lists_and_structs_are_canonical_json(value: object, shown: str) -> None:
    assert text(value) == shown


@_any_machine
@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_a_struct_does_not_matter(value: dict[str, int]) -> None:
    assert text(dict(reversed(value.items()))) == text(value)


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.float64("nan"), np.float32("nan"), pd.NaT, np.datetime64("NaT"), Decimal("NaN")],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_a_null_of_any_kind_sends_nothing(value: object) -> None:
    assert text(value) is NULL_INPUT


def test_a_null_skips_its_row() -> None:
    assert (NULL_INPUT.status, NULL_INPUT.code) == ("skipped", "null_input")


@pytest.mark.parametrize("value", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_bytes_are_rejected_with_what_to_do(value: object) -> None:
    assert text(value) == Skip("rejected", "bad_cell", "a column of the prompt holds bytes: decode it to text first")


@pytest.mark.parametrize("value", [["\ud83d"], {"\ud83d": 1}, {"a": ["\udc00"]}])
def test_half_a_character_inside_a_list_is_bad_text(value: object) -> None:
    found = text(value)
    assert isinstance(found, Skip)
    assert (found.status, found.code) == ("rejected", "bad_text")


@pytest.mark.parametrize(
    "value",
    [object(), [object()], Broken(), 10**5000, {(1, 2): object()}],
    ids=["object", "list of object", "broken __str__", "5,000 digits", "odd names"],
)
def test_what_has_no_text_is_rejected_and_never_raises(value: object) -> None:
    found = text(value)
    assert isinstance(found, Skip)
    assert (found.status, found.code) == ("rejected", "bad_cell")


def test_a_list_that_is_nested_too_deep_is_rejected() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    found = text(deep)
    assert isinstance(found, Skip)
    assert found.code == "bad_cell"
    while deep:  # taken apart by hand: freeing it at once is as deep
        deep = deep[0]  # type: ignore[assignment]
