"""The journal answers which record a key has."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from pathlib import Path

import dask.config
import pytest

from curator_llm.errors import ConfigurationError, JournalError
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal, default_directory
from curator_llm.wire.exchange import Record


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def make(number: int, said: str = "", *, final: bool = True) -> Record:
    reply = embed(b'{"said":"%b"}' % (said or str(number)).encode())
    status = "ok" if final else "failed"
    return Record(key=key(number).hex(), op="chat/1", status=status, final=final, attempts=1, at=1.0, reply=reply)


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "seg").iterdir())


def indexes(directory: Path) -> list[Path]:
    return sorted((directory / "idx").iterdir())


def write(directory: Path, *records: Record, size: int = 1000) -> None:
    with Journal(directory) as journal:
        for start in range(0, len(records), size):
            journal.append(records[start : start + size])


@pytest.fixture(autouse=True)
def roll():
    """Small segments."""
    with dask.config.set({"curator-llm.journal.roll-records": 10}):
        yield


def test_what_was_appended_is_found_at_once(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append([make(1), make(2)])
        assert journal.lookup([key(1), key(2), key(3)]) == {key(1): make(1), key(2): make(2)}


def test_what_was_appended_is_found_by_the_next_journal(tmp_path):
    write(tmp_path, make(1))
    assert Journal(tmp_path).lookup([key(1)]) == {key(1): make(1)}


def test_what_was_appended_is_found_without_closing(tmp_path):
    journal = Journal(tmp_path)
    journal.append([make(1)])
    assert Journal(tmp_path).lookup([key(1)]) == {key(1): make(1)}
    journal.close()


def test_the_first_final_record_of_a_key_wins(tmp_path):
    write(tmp_path, make(1, "first"), make(1, "second"))
    write(tmp_path, make(1, "third"))
    assert Journal(tmp_path).lookup([key(1)]) == {key(1): make(1, "first")}


def test_the_first_wins_for_the_writer_of_the_second_too(tmp_path):
    write(tmp_path, make(1, "first"))
    with Journal(tmp_path) as journal:
        journal.append([make(1, "second")])
        journal.refresh()
        assert journal.lookup([key(1)]) == {key(1): make(1, "first")}


def test_a_record_that_is_not_final_is_kept_but_never_found(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append([make(1, final=False)])
        assert journal.lookup([key(1)]) == {}
        assert journal.find_own(key(1)) is None
    assert Journal(tmp_path).lookup([key(1)]) == {}
    assert key(1).hex().encode() in segments(tmp_path)[0].read_bytes()


def test_a_final_record_after_one_that_is_not_is_found(tmp_path):
    write(tmp_path, make(1, final=False), make(1, "final"))
    assert Journal(tmp_path).lookup([key(1)]) == {key(1): make(1, "final")}


def test_a_journal_that_only_answers_writes_no_segment(tmp_path):
    write(tmp_path, make(1))
    with Journal(tmp_path) as journal:
        journal.lookup([key(1), key(2)])
        journal.append([])
    assert len(segments(tmp_path)) == 1


def test_full_segments_are_rolled_and_get_an_index(tmp_path):
    records = [make(number) for number in range(35)]
    write(tmp_path, *records, size=5)
    assert len(segments(tmp_path)) == 4
    assert [path.stem for path in indexes(tmp_path)] == [path.name for path in segments(tmp_path)]
    assert Journal(tmp_path).lookup(map(key, range(35))) == {key(number): make(number) for number in range(35)}


def test_segments_are_rolled_at_a_size_in_bytes(tmp_path):
    with dask.config.set({"curator-llm.journal.roll-bytes": "1 kB"}):
        write(tmp_path, *[make(number) for number in range(8)], size=1)
    assert len(segments(tmp_path)) > 1


def test_own_records_are_found_in_open_and_in_rolled_segments(tmp_path):
    with Journal(tmp_path) as journal:
        for number in range(25):
            journal.append([make(number)])
        assert [journal.find_own(key(number)) for number in range(25)] == [make(number) for number in range(25)]


def test_records_of_others_are_not_own(tmp_path):
    write(tmp_path, make(1))
    with Journal(tmp_path) as journal:
        assert journal.lookup([key(1)]) != {}
        assert journal.find_own(key(1)) is None


def test_what_others_append_is_found_after_a_refresh(tmp_path):
    with Journal(tmp_path) as one, Journal(tmp_path) as other:
        for number in range(25):
            other.append([make(number)])
            one.refresh()
            assert one.lookup([key(number)]) == {key(number): make(number)}


def test_a_miss_looks_for_what_others_wrote_until_now(tmp_path):
    with Journal(tmp_path) as one, Journal(tmp_path) as other:
        assert one.lookup([key(1)]) == {}
        other.append([make(1)])
        assert one.lookup([key(1)]) == {key(1): make(1)}


def test_removing_the_indexes_loses_nothing(tmp_path):
    write(tmp_path, *[make(number) for number in range(35)], size=5)
    before = Journal(tmp_path)
    assert len(before.lookup(map(key, range(35)))) == 35
    shutil.rmtree(tmp_path / "idx")
    assert before.lookup(map(key, range(35))) == {key(number): make(number) for number in range(35)}
    shutil.rmtree(tmp_path / "idx")
    assert Journal(tmp_path).lookup(map(key, range(35))) == {key(number): make(number) for number in range(35)}


def test_own_records_outlive_the_indexes(tmp_path):
    with Journal(tmp_path) as journal:
        for number in range(25):
            journal.append([make(number)])
        shutil.rmtree(tmp_path / "idx")
        assert [journal.find_own(key(number)) for number in range(25)] == [make(number) for number in range(25)]


@pytest.mark.parametrize("place", [0, 100, 400, -1])
def test_a_damaged_index_loses_nothing(tmp_path, place):
    write(tmp_path, *[make(number) for number in range(9)])
    open_before = Journal(tmp_path)
    open_before.refresh()
    (index,) = indexes(tmp_path)
    content = bytearray(index.read_bytes())
    content[min(place, len(content) - 1)] ^= 0xFF
    index.write_bytes(content)
    for journal in (open_before, Journal(tmp_path)):
        assert journal.lookup(map(key, range(9))) == {key(number): make(number) for number in range(9)}


def test_a_large_segment_left_without_an_index_is_given_one(tmp_path):
    with dask.config.set({"curator-llm.journal.roll-records": 10_000}):
        write(tmp_path, *[make(number) for number in range(1500)])
    shutil.rmtree(tmp_path / "idx")
    Journal(tmp_path).refresh()
    assert len(indexes(tmp_path)) == 1
    assert len(Journal(tmp_path).lookup(map(key, range(1500)))) == 1500


def test_an_index_made_while_the_segment_grew_hides_nothing(tmp_path):
    with dask.config.set({"curator-llm.journal.roll-records": 10_000}), Journal(tmp_path) as writer:
        writer.append([make(number) for number in range(1200)])
        Journal(tmp_path).refresh()
        writer.append([make(number) for number in range(1200, 3000)])
        for _ in range(2):  # the second one finds an index of the whole
            assert len(Journal(tmp_path).lookup(map(key, range(3000)))) == 3000
        writer.append([make(3000)])
    assert len(Journal(tmp_path).lookup(map(key, range(3001)))) == 3001


def test_a_record_damaged_after_it_was_indexed_is_a_miss(tmp_path):
    write(tmp_path, make(1), make(2))
    journal = Journal(tmp_path)
    journal.refresh()
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"said":"1"', b'"said":"9"'))
    assert journal.lookup([key(1), key(2)]) == {key(2): make(2)}


def test_a_whole_record_in_the_place_of_another_is_not_taken_for_it_and_each_is_found_where_it_is_now(tmp_path):
    write(tmp_path, make(1), make(2))
    journal = Journal(tmp_path)
    journal.refresh()
    (segment,) = segments(tmp_path)
    head, first, second = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(head + second + first)
    assert journal.lookup([key(1)]) == {key(1): make(1)}
    assert journal.lookup([key(1), key(2)]) == {key(1): make(1), key(2): make(2)}


def test_what_lies_behind_a_damage_is_found_though_the_index_knows_another_place(tmp_path):
    write(tmp_path, make(1), make(2), make(3))
    journal = Journal(tmp_path)
    journal.refresh()
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"said":"1"', b'"sa'))
    for reader in (journal, Journal(tmp_path)):
        assert reader.lookup([key(1), key(2), key(3)]) == {key(2): make(2), key(3): make(3)}


def test_a_damaged_line_is_left_out_with_a_warning(tmp_path, caplog):
    journal = Journal(tmp_path)
    journal.append([make(1), make(2)])
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"said":"1"', b'"said":"9"'))
    assert Journal(tmp_path).lookup([key(1), key(2)]) == {key(2): make(2)}
    assert "1 damaged line" in caplog.text
    journal.close()


def test_damaged_lines_are_told_once_with_their_file_and_what_it_means(tmp_path, caplog):
    write(tmp_path, make(1), make(2), make(3))
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"said":"1"', b'"sa').replace(b'"said":"2"', b'"sa'))
    journal = Journal(tmp_path)
    for _ in range(3):
        journal.lookup(map(key, range(5)))
    assert [record.getMessage() for record in caplog.records] == [
        f"{segment}: 2 damaged lines: their rows are asked again."
    ]


def test_a_last_line_that_was_cut_is_told_once_its_writer_had_time_to_end_it(tmp_path, caplog):
    write(tmp_path, make(1), make(2))
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-5])
    assert Journal(tmp_path).lookup([key(1), key(2)]) == {key(1): make(1)}
    assert not caplog.records
    os.utime(segment, (1.0, 1.0))
    assert Journal(tmp_path).lookup([key(1), key(2)]) == {key(1): make(1)}
    assert "1 damaged line: its row is asked again" in caplog.text


def test_what_is_no_file_among_the_segments_is_passed_over(tmp_path):
    write(tmp_path, make(1))
    (tmp_path / "seg" / "x.jsonl").mkdir()
    (tmp_path / "seg" / "y.jsonl").symlink_to("nowhere")
    assert Journal(tmp_path).lookup([key(1)]) == {key(1): make(1)}


def test_a_removed_segment_is_a_miss(tmp_path):
    write(tmp_path, make(1))
    journal = Journal(tmp_path)
    journal.refresh()
    segments(tmp_path)[0].unlink()
    assert journal.lookup([key(1)]) == {}


def test_only_this_user_may_read_a_journal(tmp_path):
    write(tmp_path / "journal", *[make(number) for number in range(35)], size=5)
    files = list((tmp_path / "journal").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_dir()} == {0o700}
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


@pytest.mark.parametrize("url", ["s3://bucket/journal", "gs://b", Path("s3://bucket/journal"), "abfs://c@a/j"])
def test_an_object_store_is_refused_with_advice(url):
    with pytest.raises(ConfigurationError, match="file system"):
        Journal(url)


@pytest.mark.parametrize("where", ["", "seg", "idx"])
def test_a_file_in_the_way_is_named(tmp_path, where):
    path = tmp_path / "journal" / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(JournalError, match=r"file stands where .* curator-llm\.journal\.path"):
        Journal(tmp_path / "journal")


def test_a_directory_that_may_not_be_written_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write everywhere
    with pytest.raises(JournalError, match="change its permissions") as caught:
        Journal(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_journal_of_a_later_version_is_refused(tmp_path):
    write(tmp_path, make(1))
    (tmp_path / "FORMAT").write_text("curator-llm journal 2\n")
    with pytest.raises(JournalError, match="upgrade"):
        Journal(tmp_path)


@pytest.mark.parametrize("content", ["", "something else", "curator-llm journal x"])
def test_a_directory_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "FORMAT").write_text(content)
    with pytest.raises(JournalError, match="not a journal"):
        Journal(tmp_path)


def test_a_closed_journal_answers_and_takes_nothing(tmp_path):
    journal = Journal(tmp_path)
    journal.append([make(1)])
    journal.close()
    journal.close()
    assert journal.lookup([key(1)]) == {key(1): make(1)}
    with pytest.raises(JournalError, match="closed"):
        journal.append([make(2)])


def test_after_a_failed_append_nothing_of_it_is_found_and_the_next_one_works(tmp_path, monkeypatch):
    with Journal(tmp_path) as journal:
        journal.append([make(1)])

        def fail(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            with pytest.raises(JournalError, match="free space"):
                journal.append([make(2)])
        journal.append([make(3)])
        assert journal.lookup([key(1), key(2), key(3)]) == {key(1): make(1), key(3): make(3)}
    assert Journal(tmp_path).lookup([key(1), key(2), key(3)]) == {key(1): make(1), key(3): make(3)}


def test_a_key_that_is_none_writes_nothing(tmp_path):
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match="non-hexadecimal"):
            journal.append([make(1), Record("x", "chat/1", "ok", True, 1, 0.0, embed(b"{}"))])
        assert segments(tmp_path) == []


def test_the_default_directory_is_the_one_configured():
    with dask.config.set({"curator-llm.journal.path": "/data/journal"}):
        assert default_directory() == Path("/data/journal")


def test_a_configured_object_store_is_refused():
    with dask.config.set({"curator-llm.journal.path": "s3://bucket/journal"}), pytest.raises(ConfigurationError):
        default_directory()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/me/.cache/curator-llm/journal"),
        ("linux", {"XDG_CACHE_HOME": "/scratch/me"}, "/scratch/me/curator-llm/journal"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/curator-llm/journal"),
        ("darwin", {}, "/home/me/Library/Caches/curator-llm/journal"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/curator-llm/journal"),
    ],
)
def test_without_a_setting_it_is_in_the_users_cache(monkeypatch, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with dask.config.set({"curator-llm.journal.path": None}):
        assert default_directory() == Path(expected)


def test_a_segment_that_is_newer_than_its_index_as_after_a_copy_is_read_whole(tmp_path):
    write(tmp_path, make(1), make(2))
    (segment,) = segments(tmp_path)
    newer = segment.read_bytes()
    shutil.rmtree(tmp_path)
    write(tmp_path, make(1))
    (old,) = segments(tmp_path)
    old.write_bytes(newer)
    assert Journal(tmp_path).lookup([key(2)]) == {key(2): make(2)}
