"""The derived index of a segment."""

from __future__ import annotations

import hashlib
import os
import stat
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.journal.index import DamagedIndexError, Index, words, write_index


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def make(path, places, **header) -> Index:
    write_index(path, places, **{"segment": "s.jsonl", "covers": 10, "complete": True, **header})
    index = Index.open(path, "s.jsonl")
    assert index is not None
    return index


@pytest.fixture
def path(tmp_path):
    return tmp_path / "idx" / "s.jsonl.idx"


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 5_000])
def test_every_key_is_found_at_its_place(path, count):
    places = {key(number): (number * 1000, number + 1) for number in range(count)}
    index = make(path, places)
    assert index.find(places) == places


def test_places_beyond_four_gigabytes_are_kept(path):
    places = {key(1): (1 << 40, (1 << 32) - 1)}
    assert make(path, places).find(places) == places


def test_keys_that_are_not_there_are_not_found(path):
    index = make(path, {key(number): (number, 1) for number in range(1000)})
    assert index.find([key(number) for number in range(1000, 2000)]) == {}


def test_the_filter_passes_every_key_that_is_there_and_few_others(path):
    index = make(path, {key(number): (number, 1) for number in range(5000)})
    assert all(index.might_hold(words(key(number))) for number in range(5000))
    assert sum(index.might_hold(words(key(number))) for number in range(5000, 10_000)) < 300
    many = np.frombuffer(b"".join(key(number) for number in range(10_000)), dtype="<u4").reshape(-1, 4)
    assert index.which_might_hold(many).tolist() == [
        number for number in range(10_000) if index.might_hold(words(key(number)))
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.binary(min_size=16, max_size=16), st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 30)))
)
def test_an_index_is_a_dict_for_any_keys_at_all(tmp_path_factory, places):
    index = make(tmp_path_factory.mktemp("any") / "s.jsonl.idx", places)
    asked = [*places, *(bytes(reversed(known)) for known in places), bytes(16)]
    assert index.find(asked) == {known: places[known] for known in asked if known in places}


def test_bytes_that_look_like_a_key_but_stand_across_an_entry_are_none(path):
    across = bytes(4) + struct.pack("<IQ", 9, 7)
    assert make(path, {bytes(16): (7, 9)}).find([across]) == {}
    assert make(path, {bytes(16): (7, 9), across: (1, 2)}).find([across]) == {across: (1, 2)}


def test_it_says_how_much_of_which_segment_it_covers(path):
    index = make(path, {key(1): (1, 1)}, covers=1234, complete=False)
    assert (index.covers, index.complete) == (1234, False)
    assert Index.open(path, "other.jsonl") is None


def test_a_missing_file_is_no_index(path):
    assert Index.open(path, "s.jsonl") is None


@pytest.mark.parametrize("size", [0, 1, 50, 200, 400])
def test_a_cut_head_is_no_index(path, size):
    make(path, {key(number): (number, 1) for number in range(300)})
    path.write_bytes(path.read_bytes()[:size])
    assert Index.open(path, "s.jsonl") is None


def test_a_damaged_entry_is_noticed(path):
    index = make(path, {key(1): (1, 1)})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedIndexError):
        index.find([key(1)])


def test_only_this_user_may_read_an_index(path):
    make(path, {key(1): (1, 1)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_index_that_cannot_be_written_leaves_the_old_one(path, monkeypatch):
    make(path, {key(1): (1, 1)})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make(path, {key(2): (2, 2)})
    monkeypatch.undo()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert Index.open(path, "s.jsonl").find([key(1), key(2)]) == {key(1): (1, 1)}
