"""Outputs: one schema in all files, values that come back as they were."""

from __future__ import annotations

import datetime as dt
import decimal
import errno
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curator_llm.errors import RunError
from curator_llm.job.data import parts as parts_module
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.inputs import open_input
from curator_llm.job.data.outputs import make_output
from curator_llm.job.data.parts import join_lines, remove_strays, write_part
from curator_llm.job.places import Place

PLACE = Place("job.yaml", "output")


def source_of(tmp_path, table):
    pq.write_table(table, tmp_path / "in.parquet")
    return open_input(Data("parquet", tmp_path / "in.parquet", PLACE))


def answered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(
        a=pd.array(["x"] * len(frame), dtype="string[pyarrow]"),
        a__attempts=pd.array([None] * len(frame), dtype="Int64"),
    )


@pytest.fixture
def parts(tmp_path):
    directory = tmp_path / "parts"
    directory.mkdir()
    return directory


def test_empty_null_and_full_pieces_are_written_with_one_schema(tmp_path, parts):
    table = pa.table({"n": pa.array([1, None], pa.int32()), "l": [[1], None], "day": [dt.date(2024, 1, 1), None]})
    source = source_of(tmp_path, table)
    full = answered(source.pieces()[0].read())
    output = make_output(Data("parquet", tmp_path / "out", PLACE), parts, answered(source.meta), source)
    for number, frame in enumerate(
        [full, full.iloc[:0], full.iloc[1:].assign(a=pd.array([None], dtype="string[pyarrow]"))]
    ):
        output.write(frame, number)
    schemas = [pq.read_schema(file) for file in sorted(parts.iterdir())]
    assert len(schemas) == 3
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
    assert [schemas[0].field(name).type for name in table.column_names] == table.schema.types


def test_input_columns_are_read_back_as_from_the_input_and_added_ones_with_their_dtypes(tmp_path, parts):
    table = pa.table({"n": [1, 2], "text": ["a", "b"], "d": [decimal.Decimal("1.50")] * 2, "st": [{"a": [1]}] * 2})
    source = source_of(tmp_path, table)
    output = make_output(Data("parquet", tmp_path / "out", PLACE), parts, answered(source.meta), source)
    output.write(answered(source.pieces()[0].read()), 0)
    back = pd.read_parquet(parts)
    pd.testing.assert_frame_equal(back[table.column_names], pd.read_parquet(tmp_path / "in.parquet"))
    assert back[["a", "a__attempts"]].dtypes.astype(str).tolist() == ["string", "Int64"]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"id": [1, 2], "text": ["a", "b"]}).iloc[::-1],
        pd.DataFrame({"id": [1, 2], "text": ["a", "b"]}).set_index("id"),
        pd.DataFrame({"id": [1, 2], "day": [3, 4], "text": ["a", "b"]})
        .set_index(["id", "day"])
        .rename_axis([None, "day"]),
        pd.DataFrame({0: [1, 2], 1: ["a", "b"]}),
        pd.DataFrame([[1, "a"]], columns=pd.MultiIndex.from_tuples([("x", "id"), ("x", "text")])),
    ],
    ids=["unnamed index", "named index", "index of two", "numbers as names", "names of two"],
)
def test_indexes_and_labels_of_pandas_come_back_as_the_columns_they_are_on_disk(tmp_path, parts, frame):
    frame.to_parquet(tmp_path / "in.parquet")
    source = open_input(Data("parquet", tmp_path / "in.parquet", PLACE))
    output = make_output(Data("parquet", tmp_path / "out", PLACE), parts, answered(source.meta), source)
    output.write(answered(source.pieces()[0].read()), 0)
    written, given = pq.read_table(parts), pq.read_table(tmp_path / "in.parquet")
    assert written.select(given.column_names).cast(given.schema).equals(given)
    assert list(pd.read_parquet(parts).columns) == [*given.column_names, "a", "a__attempts"]


def test_structures_of_json_lines_become_json_text_in_parquet(tmp_path, parts):
    (tmp_path / "in.jsonl").write_text('{"chat": [{"role": "user", "content": "Hi"}]}\n{"chat": null}\n')
    source = open_input(Data("jsonl", tmp_path / "in.jsonl", PLACE))
    output = make_output(Data("parquet", tmp_path / "out", PLACE), parts, source.meta, source)
    output.write(source.pieces()[0].read(), 0)
    texts = pd.read_parquet(parts)["chat"]
    assert json.loads(texts[0]) == [{"role": "user", "content": "Hi"}]
    assert texts.isna().tolist() == [False, True]


def test_json_lines_hold_what_parquet_held(tmp_path, parts):
    table = pa.table(
        {
            "n": [1, None],
            "l": [["a", "b"], None],
            "day": [dt.date(2024, 1, 1), None],
            "at": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None],
            "d": [decimal.Decimal("1.50"), None],
        }
    )
    source = source_of(tmp_path, table)
    make_output(Data("jsonl", tmp_path / "out", PLACE), parts, source.meta, source).write(source.pieces()[0].read(), 0)
    first, second = [json.loads(line) for line in (parts / "part-00000.jsonl").read_text().splitlines()]
    assert first == {"n": 1, "l": ["a", "b"], "day": "2024-01-01", "at": "2024-01-01T00:00:00+00:00", "d": "1.50"} | {
        "at": first["at"]
    }
    assert dt.datetime.fromisoformat(first["at"]) == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert second == dict.fromkeys(table.column_names)


def test_parts_are_joined_in_the_order_of_the_rows_and_strays_are_removed(tmp_path, parts):
    for number in (0, 2, 100_000):
        (parts / f"part-{number:05d}.jsonl").write_text(f"{number}\n")
    (parts / "part-00002.jsonl.abcd.new").write_text("torn")
    (parts / "part-00007.jsonl").write_text("of an older cut\n")
    remove_strays(parts, [0, 2, 100_000])
    join_lines(parts, tmp_path / "whole")
    assert (tmp_path / "whole").read_text() == "0\n2\n100000\n"


def test_a_part_for_which_there_is_no_room_stops_the_run_with_its_name(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parts_module.os, "fsync", full)
    with pytest.raises(RunError, match=r"part-00000\.parquet cannot be written \(No space left on device\)\. All repl"):
        write_part(tmp_path, "part-00000.parquet", b"x")
    assert not list(tmp_path.iterdir())


def test_a_part_that_its_worker_wrote_somewhere_else_is_missed(parts):
    (parts / "part-00000.jsonl").write_text("0\n")
    with pytest.raises(RunError, match=r"1 of 2 parts are not in .*: name an output that is the same place for all"):
        remove_strays(parts, range(2))
