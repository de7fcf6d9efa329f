"""The journal behaves as a dict in which the first wins, whatever happens to its bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.wire.exchange import Record

KEYS = [number.to_bytes(1, "big") * 16 for number in (0, 1, 127, 128, 255)]

written = st.lists(st.tuples(st.integers(0, len(KEYS) - 1), st.booleans()), max_size=6)
segments = st.lists(written, min_size=1, max_size=3)
damage = st.lists(
    st.tuples(
        st.sampled_from(["overwrite", "insert", "delete", "cut"]),
        st.integers(0, 10_000),
        st.binary(min_size=1, max_size=20) | st.just(b"\n"),
    ),
    min_size=1,
    max_size=4,
)


def fill(directory: Path, plan: list[list[tuple[int, bool]]]) -> dict[bytes, list[Record]]:
    """Write the planned segments and return the final records of each key in order."""
    model: dict[bytes, list[Record]] = {}
    for number, records in enumerate(plan):
        with Journal(directory) as journal:
            for place, (index, final) in enumerate(records):
                reply = embed(b'{"said":"%d.%d"}' % (number, place))
                record = Record(KEYS[index].hex(), "chat/1", "ok" if final else "failed", final, 1, 1.0, reply)
                journal.append([record])
                if final:
                    model.setdefault(KEYS[index], []).append(record)
    return model


def hurt(path: Path, kind: str, place: int, data: bytes) -> None:
    content = path.read_bytes()
    place %= len(content) + 1
    after = {
        "overwrite": data + content[place + len(data) :],
        "insert": data + content[place:],
        "delete": content[place + len(data) :],
        "cut": b"",
    }[kind]
    path.write_bytes(content[:place] + after)


@settings(max_examples=30, deadline=None)
@given(segments)
def test_undamaged_it_is_a_dict_in_which_the_first_wins(plan):
    with tempfile.TemporaryDirectory() as directory:
        model = fill(Path(directory), plan)
        assert Journal(directory).lookup(KEYS) == {key: records[0] for key, records in model.items()}


@settings(max_examples=50, deadline=None)
@given(segments, damage, st.randoms(use_true_random=False), st.booleans())
def test_damage_never_raises_and_never_gives_a_wrong_value(plan, harm, random, indexed):
    with tempfile.TemporaryDirectory() as directory:
        model = fill(Path(directory), plan)
        before = Journal(directory)
        before.refresh()
        if not indexed:
            for path in Path(directory, "idx").iterdir():
                path.unlink()
        files = sorted([*Path(directory, "seg").iterdir(), *Path(directory, "idx").iterdir()])
        for kind, place, data in harm if files else ():
            hurt(random.choice(files), kind, place, data)
        for journal in (before, Journal(directory)):
            for key, record in journal.lookup(KEYS).items():
                assert record in model[key]


@settings(max_examples=30, deadline=None)
@given(segments, damage, st.randoms(use_true_random=False))
def test_damage_to_indexes_loses_nothing(plan, harm, random):
    with tempfile.TemporaryDirectory() as directory:
        model = fill(Path(directory), plan)
        before = Journal(directory)
        before.refresh()
        files = sorted(Path(directory, "idx").iterdir())
        for kind, place, data in harm if files else ():
            hurt(random.choice(files), kind, place, data)
        for journal in (before, Journal(directory)):
            assert journal.lookup(KEYS) == {key: records[0] for key, records in model.items()}


@settings(max_examples=30, deadline=None)
@given(segments, st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_one_wrong_byte_costs_no_record_but_those_it_touches(plan, place, byte, indexed):
    with tempfile.TemporaryDirectory() as directory:
        model = fill(Path(directory), plan)
        files = sorted(Path(directory, "seg").iterdir())
        if not indexed:
            for path in Path(directory, "idx").iterdir():
                path.unlink()
        if files:
            hurt(files[place % len(files)], "overwrite", place, bytes([byte]))
        found = Journal(directory).lookup(KEYS)
        lost = [key for key, records in model.items() if found.get(key) != records[0]]
        assert len(lost) <= 2
