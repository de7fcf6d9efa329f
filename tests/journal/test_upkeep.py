"""Taking replies out of a journal, and making few segments of many."""

from __future__ import annotations

import contextlib
import errno
import os
import zlib

import dask
import msgspec
import pytest

from curator_llm.errors import JournalError
from curator_llm.journal.contents import Sum, contents
from curator_llm.journal.record import embed
from curator_llm.journal.segment import Scan
from curator_llm.journal.store import Journal
from curator_llm.journal.upkeep import compact, remove
from curator_llm.wire.exchange import Record


def make(number: int, reply: str = '"one"', **fields) -> Record:
    record = Record(
        key=f"{number:032x}",
        op="chat/1",
        status="ok",
        final=True,
        attempts=1,
        at=float(number),
        reply=embed(reply.encode()),
        model="a",
        billed=True,
        input_tokens=10,
        output_tokens=2,
    )
    return msgspec.structs.replace(record, **fields)


def write(directory, *records: Record) -> None:
    """Write a segment."""
    with Journal(directory) as journal:
        journal.append(records)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def replies(directory, *numbers: int) -> dict[int, str]:
    """Return what a run would find."""
    with Journal(directory) as journal:
        found = journal.lookup([key(number) for number in numbers])
    return {int.from_bytes(name, "big"): msgspec.json.decode(record.reply) for name, record in found.items()}


def everything(directory) -> list[Record]:
    return [record for path in sorted((directory / "seg").glob("*.jsonl")) for _, _, record in Scan(path)]


@pytest.fixture
def directory(tmp_path):
    """A journal of three segments: request 1 was answered twice, 4 failed for money, 5 failed for nothing."""
    failed = {"status": "failed", "final": False, "output_tokens": None}
    write(tmp_path, make(1), make(2, model="b"))
    write(tmp_path, make(1, '"two"'), make(4, **failed))
    write(tmp_path, make(3), make(5, billed=False, **failed))
    return tmp_path


def test_what_is_removed_is_found_no_more_and_the_rest_is(directory):
    done = remove(directory, lambda record: record.model == "b")
    assert (done.removed, done.kept, done.segments_before, done.segments) == (1, 5, 3, 3)
    assert replies(directory, 1, 2, 3) == {1: "one", 3: "one"}


def test_all_replies_to_a_request_are_removed(directory):
    remove(directory, lambda record: record.key == key(1).hex())
    assert replies(directory, 1, 2, 3) == {2: "one", 3: "one"}


def test_a_segment_of_which_nothing_stays_is_gone_with_its_index(directory):
    remove(directory, lambda record: record.key in {key(3).hex(), key(5).hex()})
    assert [len(list((directory / folder).iterdir())) for folder in ("seg", "idx")] == [2, 2]


def test_nothing_of_what_is_removed_is_left_on_the_disk(directory):
    write(directory, make(7, '"of Jane Doe"'), make(8))
    remove(directory, lambda record: b"Jane Doe" in bytes(record.reply))
    assert not [path for path in directory.rglob("*") if path.is_file() and b"Jane" in path.read_bytes()]
    assert replies(directory, 7, 8) == {8: "one"}


def test_a_dry_removal_counts_and_changes_nothing(directory):
    before = everything(directory)
    assert remove(directory, lambda record: record.model == "b", dry=True).removed == 1
    assert everything(directory) == before


def test_a_segment_from_which_nothing_goes_is_not_touched(directory):
    before = {path.name: path.stat().st_mtime_ns for path in (directory / "seg").iterdir()}
    assert remove(directory, lambda record: record.model == "b").removed == 1
    after = {path.name: path.stat().st_mtime_ns for path in (directory / "seg").iterdir()}
    assert len(before.items() & after.items()) == 2


def test_compaction_makes_one_segment_that_answers_as_before(directory):
    before = replies(directory, 1, 2, 3, 4, 5)
    done = compact(directory)
    assert (done.segments_before, done.segments) == (3, 1)
    assert replies(directory, 1, 2, 3, 4, 5) == before == {1: "one", 2: "one", 3: "one"}


def test_compaction_keeps_what_was_paid_and_drops_what_nobody_reads(directory):
    paid = Sum(), Sum()
    for record in everything(directory):
        paid[0].add(record) if record.billed else None
    done = compact(directory)
    for record in everything(directory):
        paid[1].add(record)
    assert paid[0] == paid[1]
    assert (done.removed, done.kept) == (1, 5)
    assert [bytes(record.reply) for record in everything(directory) if record.key == key(1).hex()] == [
        b'"one"',
        b"null",
    ]


def test_a_second_reply_never_comes_to_be_the_first(directory):
    compact(directory)
    path = next((directory / "seg").iterdir())
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"0ne"', 1))  # the first reply is damaged
    assert 1 not in replies(directory, 1)


def test_compaction_rolls_segments_that_stand_in_order(directory):
    with dask.config.set({"curator-llm.journal.roll-records": 2}):
        assert compact(directory).segments == 3
    assert replies(directory, 1, 2, 3) == {1: "one", 2: "one", 3: "one"}


def test_a_second_compaction_changes_nothing(directory):
    compact(directory)
    before = everything(directory)
    done = compact(directory)
    assert (done.removed, done.segments, done.freed_bytes) == (0, 1, 0)
    assert everything(directory) == before


def test_lines_that_say_more_than_this_version_knows_are_kept_as_they_are(directory):
    rest = b'"of_later":1,"key":"%s","op":"chat/1","status":"ok","final":true,"attempts":1,"at":1.0,"reply":1}' % (
        key(9).hex().encode()
    )
    line = b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)
    path = min((directory / "seg").iterdir())
    path.write_bytes(path.read_bytes() + line)
    compact(directory)
    assert line in next((directory / "seg").iterdir()).read_bytes()


@pytest.mark.parametrize("upkeep", [compact, lambda directory: remove(directory, lambda _: True)])
def test_a_journal_that_somebody_writes_is_left_alone(directory, upkeep):
    with Journal(directory) as journal:
        journal.append([make(6)])
        with pytest.raises(JournalError, match=r"still writes to .* end it first"):
            upkeep(directory)
        journal.append([make(7)])
    assert replies(directory, 1, 6, 7) == {1: "one", 6: "one", 7: "one"}
    upkeep(directory)  # it has ended


def test_two_do_not_do_upkeep_at_once(directory):
    def second(record):
        with pytest.raises(JournalError, match="Somebody else does upkeep"):
            compact(directory)
        return False

    assert remove(directory, second).removed == 0


def test_who_reads_meanwhile_finds_what_stays(directory):
    with Journal(directory) as reader:
        assert len(reader.lookup([key(1), key(2)])) == 2
        remove(directory, lambda record: record.model == "b")
        compact(directory)
        assert set(reader.lookup([key(1), key(2), key(3)])) == {key(1), key(3)}


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kill_at", range(9))
def test_upkeep_that_is_killed_anywhere_loses_nothing_and_can_be_done_again(directory, monkeypatch, kill_at):
    left = kill_at

    def before(change):
        def changed(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            return change(*args, **kwargs)

        return changed

    with monkeypatch.context() as patch:
        for name in ("touch", "replace", "unlink"):
            patch.setattr(type(directory), name, before(getattr(type(directory), name)))
        with contextlib.suppress(KilledError):
            compact(directory)
            assert kill_at == 8  # the kills reach from the first change to the last
    assert replies(directory, 1, 2, 3) == {1: "one", 2: "one", 3: "one"}
    compact(directory)
    assert replies(directory, 1, 2, 3) == {1: "one", 2: "one", 3: "one"}
    assert [path.suffix for path in (directory / "seg").iterdir()] == [".jsonl"]


def test_a_directory_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    for work in (compact, contents, lambda directory: remove(directory, lambda _: True)):
        with pytest.raises(JournalError, match="is no journal: give the directory that holds FORMAT"):
            work(tmp_path / "none")
        with pytest.raises(JournalError, match="is no journal"):
            work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_contents_are_counted_by_model_and_status(directory):
    path = max((directory / "seg").iterdir())
    path.write_bytes(path.read_bytes() + b'{"no record"}\n{"crc":')
    counted = contents(directory)
    assert counted.by == {
        ("a", "ok"): Sum(3, 3, 30, 6),
        ("b", "ok"): Sum(1, 1, 10, 2),
        ("a", "failed"): Sum(2, 2, 20, 0),
    }
    assert (counted.segments, counted.records, counted.final, counted.distinct) == (3, 6, 4, 3)
    assert (counted.damaged, counted.torn, counted.oldest_at, counted.newest_at) == (1, 1, 1.0, 5.0)
    assert counted.size_bytes == sum(path.stat().st_size for path in (directory / "seg").iterdir())


def test_an_empty_journal_has_nothing_in_it(tmp_path):
    Journal(tmp_path).close()
    assert (contents(tmp_path).records, compact(tmp_path).segments) == (0, 0)


def test_where_there_are_no_locks_upkeep_refuses_what_was_written_a_moment_ago(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with Journal(tmp_path) as journal:
        journal.append([make(1)])
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(JournalError, match="still writes"):
        compact(tmp_path)
    for path in (tmp_path / "seg").iterdir():
        os.utime(path, (1.0, 1.0))
    assert compact(tmp_path).segments == 1


@pytest.mark.parametrize(
    "tend", [compact, lambda directory: remove(directory, lambda record: record.key > "0" * 31 + "2")]
)
def test_what_is_written_anew_is_for_this_user_alone(directory, tend):
    tend(directory)
    assert {path.stat().st_mode & 0o777 for path in (directory / "seg").iterdir()} == {0o600}


def test_the_bytes_that_were_freed_and_the_records_that_went_are_those_of_all_segments(directory):
    before = sum(path.stat().st_size for path in (directory / "seg").iterdir())
    done = remove(directory, lambda record: record.status == "ok")
    after = sum(path.stat().st_size for path in (directory / "seg").iterdir())
    assert (done.removed, done.kept, done.segments_before) == (4, 2, 3)
    assert done.freed_bytes == before - after


def test_what_a_compaction_writes_rolls_as_a_run_does(tmp_path):
    for first in (0, 3):
        write(tmp_path, *(make(number) for number in range(first, first + 3)))
    with dask.config.set({"curator-llm.journal.roll-records": 2}):
        done = compact(tmp_path)
    assert (done.segments_before, done.segments) == (2, 3)
    assert replies(tmp_path, *range(6)) == dict.fromkeys(range(6), "one")
