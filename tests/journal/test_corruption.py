"""The journal behaves as a dict in which the first wins, whatever happens to its bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.journal.contents import contents
from curator_llm.journal.store import Journal
from tests.journal.damage import KEYS, check, damage, files_of, fill, hurt, read_files, segments


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Wait for no disk: nothing here is about power cuts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, lambda _: None)
        yield


@settings(max_examples=30, deadline=None)
@given(segments)
def test_undamaged_it_is_a_dict_in_which_the_first_wins(plan):
    with tempfile.TemporaryDirectory() as directory:
        model = fill(Path(directory), plan)
        assert Journal(directory).lookup(KEYS) == {key: records[0] for key, records in model.items()}


@settings(max_examples=150, deadline=None)
@given(segments, damage, st.booleans())
def test_damage_never_raises_never_gives_a_wrong_value_and_loses_only_what_it_touches(plan, harms, indexed):
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as directory:
        model = fill(Path(whole), plan)
        check(model, read_files(Path(whole)), harms, Path(directory), indexed=indexed)
        assert contents(Path(directory)).distinct <= len(KEYS)


@settings(max_examples=30, deadline=None)
@given(segments, damage)
def test_damage_to_indexes_loses_nothing(plan, harms):
    with tempfile.TemporaryDirectory() as directory:
        model = fill(Path(directory), plan)
        before = Journal(directory)
        before.refresh()
        for what in harms:
            if files := files_of(Path(directory), "idx"):
                hurt(files, what)
        for journal in (before, Journal(directory)):
            assert journal.lookup(KEYS) == {key: records[0] for key, records in model.items()}


@settings(max_examples=30, deadline=None)
@given(segments, st.integers(0, 10_000), st.binary(min_size=1, max_size=1), st.integers(0, 9), st.booleans())
def test_one_wrong_byte_costs_no_record_but_those_it_touches(plan, place, byte, number, indexed):
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as directory:
        model = fill(Path(whole), plan)
        harm = ("overwrite", place, byte, number)
        assert check(model, read_files(Path(whole)), [harm], Path(directory), indexed=indexed) <= 2
