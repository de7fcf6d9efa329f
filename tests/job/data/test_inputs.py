"""Inputs: which files, which columns, which pieces, with which dtypes."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curator_llm.errors import ConfigurationError, JobFileError
from curator_llm.job.data import json_lines, pieces
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.inputs import open_input
from curator_llm.job.places import Place


def data(path, kind="parquet", columns=None) -> Data:
    return Data(kind, path, Place("job.yaml", f"input.{kind}"), columns)


def read_all(source) -> pd.DataFrame:
    return pd.concat([piece.read() for piece in source.pieces()], ignore_index=True)


def write_lines(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_pieces_hold_equal_numbers_of_rows_however_the_row_groups_were_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "FEWEST_ROWS", 1)
    monkeypatch.setattr(pieces, "MOST_ROWS", 10)
    pq.write_table(pa.table({"n": range(7)}), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(pa.table({"n": range(7, 36)}), tmp_path / "b.parquet")
    monkeypatch.setattr(pieces, "FEWEST_PIECES", 1)
    source = open_input(data(tmp_path))
    assert [piece.read()["n"].tolist() for piece in source.pieces()] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 30)),
        list(range(30, 36)),
    ]
    assert source.rows == 36


def test_files_are_read_in_natural_order_and_names_with_underscore_are_not_data(tmp_path):
    for number in (10, 2, 1):
        pq.write_table(pa.table({"n": [number]}), tmp_path / f"part.{number}.parquet")
    (tmp_path / "_metadata.parquet").write_text("no data")
    (tmp_path / "README.txt").write_text("no data")
    assert read_all(open_input(data(tmp_path)))["n"].tolist() == [1, 2, 10]
    assert read_all(open_input(data(tmp_path / "part.1*.parquet")))["n"].tolist() == [1, 10]


@pytest.mark.parametrize("pattern", ["*.jsonl", "**/*.jsonl", "*"])
def test_a_glob_passes_over_names_with_underscore_unless_it_asks_for_them(tmp_path, pattern):
    for name in ("a.jsonl", "_b.jsonl", "_tmp/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_lines(tmp_path / name, [{"name": name}])
    assert read_all(open_input(data(tmp_path / pattern, "jsonl")))["name"].tolist() == ["a.jsonl"]
    assert read_all(open_input(data(tmp_path / "_*.jsonl", "jsonl")))["name"].tolist() == ["_b.jsonl"]


def test_suffixes_in_capitals_are_data_too(tmp_path):
    for name in ("a.jsonl", "B.JSONL"):
        write_lines(tmp_path / name, [{"name": name}])
    assert sorted(read_all(open_input(data(tmp_path, "jsonl")))["name"]) == ["B.JSONL", "a.jsonl"]


@pytest.mark.parametrize("named", ["", "b.jsonl.gz", "*.gz"])
def test_a_compressed_file_is_refused_and_not_passed_over(tmp_path, named):
    write_lines(tmp_path / "a.jsonl", [{"n": 1}])
    (tmp_path / "b.jsonl.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "notes.txt.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(JobFileError, match=r"\.gz is compressed \(gzip\), and files are read as they are: unpack it"):
        open_input(data(tmp_path / named, "jsonl"))


def test_directories_named_by_value_become_columns(tmp_path):
    for language in ("de", "en"):
        (tmp_path / f"lang={language}").mkdir()
        pq.write_table(pa.table({"n": [1]}), tmp_path / f"lang={language}" / "a.parquet")
    assert read_all(open_input(data(tmp_path)))["lang"].tolist() == ["de", "en"]


def test_whole_numbers_stay_whole_beside_nulls(tmp_path):
    pq.write_table(pa.table({"n": [1, None], "s": ["a", None]}), tmp_path / "a.parquet")
    frame = read_all(open_input(data(tmp_path / "a.parquet")))
    assert frame.dtypes.astype(str).to_dict() == {"n": "Int64", "s": "string"}
    assert open_input(data(tmp_path)).meta.dtypes.equals(frame.dtypes)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_columns_select_and_an_unknown_one_is_refused(tmp_path, kind):
    frame = pd.DataFrame({"id": [1], "text": ["x"], "other": ["y"]})
    path = tmp_path / f"a.{kind}"
    frame.to_parquet(path) if kind == "parquet" else write_lines(path, frame.to_dict("records"))
    assert list(read_all(open_input(data(path, kind, ("text", "id")))).columns) == ["text", "id"]
    with pytest.raises(JobFileError, match=r"names 'txt', which the data does not have\. Did you mean 'text'"):
        open_input(data(path, kind, ("txt",)))


@pytest.mark.parametrize(
    ("name", "said"), [("no.parquet", "no such file"), ("empty", "no .parquet"), ("x.parquet", "Parquet")]
)
def test_an_input_that_cannot_be_read_is_refused(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.parquet").write_text("text")
    with pytest.raises(JobFileError, match=said):
        open_input(data(tmp_path / name))


@pytest.mark.parametrize(
    ("later", "columns", "said"),
    [
        ({"id": [2]}, None, "b.parquet lacks 'text', unlike the first file: list `columns` that all files have"),
        ({"id": [2], "text": ["y"], "more": [1]}, None, "b.parquet has 'more', unlike the first file"),
        ({"id": ["007"], "text": ["y"]}, ("id",), "b.parquet has 'id' as string, the first file as int64"),
        (None, None, "b.parquet cannot be read as Parquet"),
    ],
)
def test_a_parquet_file_with_other_columns_than_the_first_is_refused_with_its_name(tmp_path, later, columns, said):
    pq.write_table(pa.table({"id": [1], "text": ["x"]}), tmp_path / "a.parquet")
    if later is None:
        (tmp_path / "b.parquet").write_text("PAR1 and no more")
    else:
        pq.write_table(pa.table(later), tmp_path / "b.parquet")
    with pytest.raises(JobFileError, match=said):
        open_input(data(tmp_path, columns=columns))


def test_parquet_files_may_differ_in_columns_that_are_not_read_and_in_types_that_hold_the_same(tmp_path):
    pq.write_table(pa.table({"id": [1], "text": ["x"], "one": [1]}), tmp_path / "a.parquet")
    later = {"more": [0], "id": [2.0], "text": pa.array(["y"], pa.large_string())}
    pq.write_table(pa.table(later), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": [3], "text": [None]}), tmp_path / "c.parquet")
    frame = read_all(open_input(data(tmp_path, columns=("text", "id"))))
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [["x", 1], ["y", 2], [None, 3]]


def test_a_parquet_value_that_the_first_file_s_type_does_not_hold_is_an_error_with_its_file(tmp_path):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [1.5]}), tmp_path / "b.parquet")
    with pytest.raises(ConfigurationError, match=r"b\.parquet cannot be read with the types of the first file"):
        read_all(open_input(data(tmp_path)))


def test_a_parquet_file_whose_rows_are_damaged_is_an_error_with_its_file(tmp_path):
    pq.write_table(pa.table({"n": range(5_000)}), tmp_path / "a.parquet", use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:400] = b"\xff" * 396
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"a\.parquet cannot be read"):
        read_all(open_input(data(tmp_path)))


def test_lines_are_read_once_each_however_pieces_cut_the_file(tmp_path, monkeypatch):
    rows = [{"n": n, "text": "ä" * (n % 7)} for n in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    for size in (1, 3, 17, 64, 10_000):
        monkeypatch.setattr(pieces, "MOST_BYTES", size)
        source = open_input(data(path, "jsonl"))
        assert read_all(source).to_dict("records") == rows
        assert source.rows == 60


def test_json_columns_have_the_dtypes_of_their_first_lines(tmp_path):
    rows = [{"i": 1, "f": 1, "s": "a", "b": True, "l": [1], "m": 1}, {"i": None, "f": 2.5, "m": "x", "big": 2**70}]
    write_lines(tmp_path / "a.jsonl", rows)
    frame = read_all(open_input(data(tmp_path / "a.jsonl", "jsonl")))
    assert frame.dtypes.astype(str).to_dict() == {
        "i": "Int64",
        "f": "Float64",
        "s": "string",
        "b": "boolean",
        "l": "object",
        "m": "object",
        "big": "object",
    }
    assert frame["l"].tolist() == [[1], None]


def test_a_json_column_named_as_number_may_hold_decimals_after_its_first_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "SAMPLE_RECORDS", 2)
    write_lines(tmp_path / "a.jsonl", [{"n": 1}, {"n": None}, {"n": 2.5}])
    given = Data("jsonl", tmp_path / "a.jsonl", Place("job.yaml", "input"), as_number=("n",))
    assert read_all(open_input(given))["n"].dropna().tolist() == [1.0, 2.5]
    with pytest.raises(ConfigurationError, match="if all are numbers, name the column in `as_number`"):
        read_all(open_input(data(tmp_path / "a.jsonl", "jsonl")))


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ('{"n": "x"}', "does not hold one kind"),
        ('{"n": 1, "new": 2}', "has a column 'new'"),
        ("{", "is no JSON"),
        ("3", "holds a int"),
    ],
)
def test_a_later_line_that_does_not_fit_is_an_error_that_says_where(tmp_path, monkeypatch, last, said):
    monkeypatch.setattr(json_lines, "SAMPLE_RECORDS", 2)
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}\n' + last + "\n")
    source = open_input(data(path, "jsonl"))
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_all(source)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("", "holds no rows"), ("no json\n", "begins at byte 0 is no JSON")])
def test_lines_that_are_no_rows_are_refused_at_once(tmp_path, text, said):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(JobFileError, match=said):
        open_input(data(tmp_path / "a.jsonl", "jsonl"))
