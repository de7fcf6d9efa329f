"""Writing a segment and going through it."""

from __future__ import annotations

import errno
import os
import re
import stat

import pandas as pd
import pytest

from curator_llm.errors import JournalError
from curator_llm.journal.record import embed
from curator_llm.journal.segment import Scan, SegmentWriter
from curator_llm.wire.exchange import Record


def make(number: int, reply: bytes = b'{"a":1}') -> Record:
    return Record(
        key=f"{number:032x}", op="chat/1", status="ok", final=True, attempts=1, at=float(number), reply=embed(reply)
    )


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "seg").mkdir()
    return tmp_path


@pytest.fixture
def writer(directory):
    writer = SegmentWriter(directory, roll_bytes=1 << 20, roll_records=1000)
    yield writer
    writer.close()


def keys(path, start=0):
    return [int(record.key, 16) for _, _, record in Scan(path, start)]


@pytest.fixture
def failing_write(monkeypatch):
    """Make writes to the segment end half way with an error."""

    def fail(number):
        write = os.write

        def half(file, data):
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return write(file, data)
            if len(data) > 1 and half.full:
                half.full = False
                return write(file, bytes(data)[: len(data) // 2])
            raise OSError(number, os.strerror(number))

        half.full = True
        monkeypatch.setattr(os, "write", half)

    return fail


def test_records_are_read_back_in_order_with_their_places(writer):
    places = writer.append([make(1), make(2)]) + writer.append([make(3)])
    read = list(Scan(writer.path))
    assert [(offset, len(line)) for offset, line, _ in read] == places
    assert [record for _, _, record in read] == [make(1), make(2), make(3)]


def test_a_name_says_when_where_and_who(writer):
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}\.\d{{6}}Z-[\w.]+-{os.getpid()}-[0-9a-f]{{8}}\.jsonl", writer.path.name)


def test_names_sort_by_time(directory):
    writers = [SegmentWriter(directory, 100, 10) for _ in range(5)]
    names = [writer.path.name for writer in writers]
    for writer in writers:
        writer.close()
    assert names == sorted(names)


def test_only_this_user_may_read_a_segment(writer):
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600


def test_the_first_line_says_what_the_file_is_and_is_no_damage(writer):
    writer.append([make(1)])
    scan = Scan(writer.path)
    assert [record.key for _, _, record in scan] == [make(1).key]
    assert scan.damaged == 0
    assert b'"journal":1' in writer.path.read_bytes().split(b"\n")[0]


def test_pandas_reads_a_segment_as_it_lies_there(writer):
    writer.append([make(1), make(2)])
    frame = pd.read_json(writer.path, lines=True).dropna(subset="key")
    assert frame["reply"].tolist() == [{"a": 1}, {"a": 1}]
    assert frame["status"].tolist() == ["ok", "ok"]


def test_a_line_with_a_wrong_checksum_is_left_out_and_counted(writer):
    (offset, _), *_ = writer.append([make(1), make(2)])
    content = bytearray(writer.path.read_bytes())
    content[offset + 30] ^= 1
    writer.path.write_bytes(content)
    scan = Scan(writer.path)
    assert [int(record.key, 16) for _, _, record in scan] == [2]
    assert scan.damaged == 1


def test_a_torn_last_line_is_ignored_until_it_is_whole(writer):
    writer.append([make(1), make(2)])
    whole = writer.path.read_bytes()
    writer.path.write_bytes(whole[:-5])
    scan = Scan(writer.path)
    assert [int(record.key, 16) for _, _, record in scan] == [1]
    assert scan.damaged == 0
    writer.path.write_bytes(whole)
    assert keys(writer.path, scan.position) == [2]


def test_a_scan_goes_on_where_the_last_one_ended(writer):
    writer.append([make(1)])
    scan = Scan(writer.path)
    list(scan)
    writer.append([make(2)])
    assert keys(writer.path, scan.position) == [2]


@pytest.mark.parametrize(("roll_bytes", "roll_records"), [(100, 1000), (1 << 20, 1)])
def test_a_segment_is_full_by_bytes_or_by_records(directory, roll_bytes, roll_records):
    writer = SegmentWriter(directory, roll_bytes, roll_records)
    writer.append([make(1)])
    assert writer.full
    writer.close()


def test_a_segment_without_records_leaves_no_file(directory):
    SegmentWriter(directory, 100, 10).close()
    assert list((directory / "seg").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free space"), (errno.EROFS, "read-only"), (errno.EFBIG, "ulimit -f"), (errno.EIO, "disk")],
)
def test_a_failed_write_leaves_the_file_as_it_was_and_says_what_to_do(
    writer, failing_write, monkeypatch, number, advice
):
    writer.append([make(1)])
    before = writer.path.read_bytes()
    failing_write(number)
    with pytest.raises(JournalError, match=advice) as caught:
        writer.append([make(2), make(3)])
    monkeypatch.undo()
    assert str(writer.path) in str(caught.value)
    assert writer.path.read_bytes() == before


def test_nothing_is_written_to_a_segment_whose_write_failed(writer, failing_write, monkeypatch):
    writer.append([make(1)])
    failing_write(errno.ENOSPC)
    with pytest.raises(JournalError):
        writer.append([make(2)])
    monkeypatch.undo()
    assert writer.full


def test_a_short_write_is_carried_on(writer, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:100]))
    writer.append([make(1), make(2), make(3)])
    monkeypatch.undo()
    assert keys(writer.path) == [1, 2, 3]


def test_a_disk_full_before_the_first_record_leaves_no_file(directory, failing_write, monkeypatch):
    failing_write(errno.ENOSPC)
    with pytest.raises(JournalError, match="free space"):
        SegmentWriter(directory, 100, 10)
    monkeypatch.undo()
    assert list((directory / "seg").iterdir()) == []
