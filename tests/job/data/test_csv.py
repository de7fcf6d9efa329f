"""CSV inputs: what is a record, what is a value, and what is refused with file, record and column."""

from __future__ import annotations

import csv
import io
import pickle

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator_llm.errors import ConfigurationError, CuratorLLMError, JobFileError
from curator_llm.job.data import csv_lines, pieces, records
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.inputs import open_input
from curator_llm.job.places import Place


def source_of(path, columns=None, **options):
    return open_input(Data("csv", path, Place("job.yaml", "input.csv"), columns, **options))


def read_all(source) -> pd.DataFrame:
    return pd.concat([source.meta, *(piece.read() for piece in source.pieces())], ignore_index=True)


@pytest.fixture
def read(tmp_path):
    def read(content: str | bytes, columns=None, **options) -> pd.DataFrame:
        path = tmp_path / "a.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_all(source_of(path, columns, **options))

    return read


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_quoted_fields_hold_delimiters_line_ends_and_doubled_quotes(read, line_end, mark, last):
    lines = ['"name",text', '1a,"one, two"', '"2a","a\r\nb\n\nc"', '3a,"say ""hi"""', '4a,""""', "", "5a,ä"]
    frame = read(mark + line_end.join(lines) + line_end * last)
    assert frame["name"].tolist() == ["1a", "2a", "3a", "4a", "5a"]
    assert frame["text"].tolist() == ["one, two", "a\r\nb\n\nc", 'say "hi"', '"', "ä"]


def test_an_empty_field_is_null_and_a_blank_line_no_record(read):
    frame = read('n,text\n1,\n\n,""\r\n\r\n3,x\n')
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [[1, None], [None, None], [3, "x"]]
    assert frame.dtypes.astype(str).tolist() == ["Int64", "string"]
    assert read('text\n""\n\nx\n')["text"].isna().tolist() == [True, False]


CELLS = st.text(st.sampled_from('ab",\n\r;ä 0'), max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    cut=st.sampled_from([(1, 1, 1), (2, 7, 20), (500, 3, 10_000), (3, 4096, 10_000)]),
)
def test_records_are_those_of_the_csv_module_however_pieces_cut_the_file(
    tmp_path, monkeypatch, rows, line_end, quoting, cut
):
    if quoting == csv.QUOTE_MINIMAL:  # it leaves carriage returns bare, and one before a line feed is a line end
        rows = [tuple(cell.replace("\r", "") for cell in row) for row in rows]
    rows_per_piece, block_bytes, most_bytes = cut
    monkeypatch.setattr(pieces, "FEWEST_ROWS", rows_per_piece)
    monkeypatch.setattr(pieces, "MOST_ROWS", rows_per_piece)
    monkeypatch.setattr(pieces, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(records, "_BLOCK_BYTES", block_bytes)
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows([("a", "b", "c"), *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(text.getvalue().encode())
    source = source_of(path, as_text=("a", "b", "c"))
    frames = [piece.read() for piece in source.pieces()]
    assert [len(frame) for frame in frames] == [piece.rows for piece in source.pieces()]
    assert all(len(frame) <= rows_per_piece for frame in frames)
    frame = read_all(source)
    assert [tuple(row) for row in frame.fillna("").to_numpy().tolist()] == rows
    assert source.rows == len(rows)


@pytest.mark.parametrize(
    ("texts", "dtype", "values"),
    [
        (["1", "-20", "0", ""], "Int64", [1, -20, 0, None]),
        (["9223372036854775807", "1"], "Int64", [2**63 - 1, 1]),
        (["0.5", "-12.25", "3", "1.0"], "Float64", [0.5, -12.25, 3.0, 1.0]),
        (["true", "false"], "boolean", [True, False]),
        (["True", "False"], "boolean", [True, False]),
        (["007", "008"], "string", ["007", "008"]),
        (["+1", "2"], "string", ["+1", "2"]),
        (["-0", "2"], "string", ["-0", "2"]),
        (["1e5", "2e5"], "string", ["1e5", "2e5"]),
        (["1.50", "2.25"], "string", ["1.50", "2.25"]),
        ([" 1", "2"], "string", [" 1", "2"]),
        (["١", "2"], "string", ["١", "2"]),
        (["9223372036854775808", "1"], "string", ["9223372036854775808", "1"]),
        (["0.1234567890123456789", "1.5"], "string", ["0.1234567890123456789", "1.5"]),
        (["nan", "inf"], "string", ["nan", "inf"]),
        (["NA", "null"], "string", ["NA", "null"]),
        (["yes", "no"], "string", ["yes", "no"]),
        (["", ""], "string", [None, None]),
    ],
)
def test_a_column_has_a_type_only_where_nothing_of_its_texts_is_lost(read, texts, dtype, values):
    frame = read("x,n\n" + "".join(f"a,{text}\n" for text in texts))
    assert str(frame["n"].dtype) == dtype
    assert frame["n"].astype(object).where(frame["n"].notna(), None).tolist() == values


def test_a_column_named_as_text_is_text(read):
    assert read("id,n\n1,1\n2,2\n", as_text=("id",)).dtypes.astype(str).tolist() == ["string", "Int64"]


def test_a_column_named_as_number_is_one_however_its_numbers_are_written(read, monkeypatch):
    monkeypatch.setattr(csv_lines, "SAMPLE_RECORDS", 2)
    frame = read("n,x\n1,a\n2,b\n1.50,c\n,d\n1e3,e\n", as_number=("n",))
    assert str(frame["n"].dtype) == "Float64"
    assert frame["n"].astype(object).where(frame["n"].notna(), None).tolist() == [1.0, 2.0, 1.5, None, 1000.0]
    with pytest.raises(ConfigurationError, match=r"record 2: column 'n' holds 'b', and `as_number` names it"):
        read("n\n1\nb\n", as_number=("n",))
    with pytest.raises(JobFileError, match="`as_number` names 'm', which is not read"):
        read("n\n1\n", as_number=("m",))


@pytest.mark.parametrize("late", ["0004", "4.5", "x", "1e3"])
def test_a_later_value_that_does_not_fit_is_an_error_with_file_record_column_and_way_out(tmp_path, monkeypatch, late):
    monkeypatch.setattr(csv_lines, "SAMPLE_RECORDS", 2)
    monkeypatch.setattr(pieces, "FEWEST_ROWS", 2)
    path = tmp_path / "a.csv"
    path.write_text(f"id,text\n1,a\n2,b\n3,c\n{late},d\n")
    source = source_of(path)
    with pytest.raises(ConfigurationError) as caught:
        read_all(source)
    assert f"{path}, record 4: column 'id' holds '{late}'" in str(caught.value)
    assert "name the column in `as_text` or `as_number`" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('a,b\n1,x\n2,5" disk\n', "record 2, byte 11: a quote inside of a field"),
        ('a,b\n1,x\n2,"x"y\n', "record 2, byte 12: a quote inside of a field"),
        ('a,b\n1,x\n\n2,"x\n', "record 2, byte 11: a quote is opened and not closed"),
        ("a,b\n1,x\r2,y\n", "record 1, byte 7: a carriage return without a line feed"),
        ('a,b\n1,x\r2,y\n3,5" d\n', "record 1, byte 7: a carriage return without a line feed"),
        ('a,b\n1,5" d\n2,x\r3,y\n', "record 1, byte 7: a quote inside of a field"),
        ("a,b\n1,x\n1,x,y\n", "record 2: it has 3 fields, the header line 2"),
        ("a,b\n1,x\n1\n", "record 2: it has 1 fields, the header line 2"),
        (b"a,b\n1,x\n1,\xe4\n", "record 2: this is no UTF-8 text"),
        (b"\xff\xfea\0,\0b\0\n\0", "the header line: this is no UTF-8 text"),
        ("", "is empty: the first line of a CSV file names its columns"),
        ("a,b,a\n1,2,3\n", "has 2 columns 'a': list the others in `columns`"),
        (",b\n1,2\n", "has a column without a name: list the others in `columns`"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(read, tmp_path, content, said):
    with pytest.raises(ConfigurationError) as caught:
        read(content)
    assert said in str(caught.value)
    assert str(tmp_path / "a.csv") in str(caught.value)


def test_broken_quotes_are_found_before_any_row_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_BLOCK_BYTES", 1_000)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,x\n" * 2_000 + '2,5" disk\n')
    source = source_of(path)
    with pytest.raises(ConfigurationError, match="record 2,001"):
        source.pieces()


def test_other_columns_may_be_there_twice_or_without_a_name(read):
    assert read(",b,c,c\n1,2,3,4\n", columns=("b",)).to_dict("list") == {"b": [2]}
    with pytest.raises(JobFileError, match="has 2 columns 'c'"):
        read(",b,c,c\n1,2,3,4\n", columns=("c",))


def test_columns_select_in_their_order_and_unknown_ones_are_refused(read):
    assert list(read("id,text,n\n1,x,2\n", columns=("n", "id")).columns) == ["n", "id"]
    with pytest.raises(JobFileError, match=r"names 'txt', which the data does not have\. Did you mean 'text'"):
        read("id,text\n1,x\n", columns=("txt",))
    with pytest.raises(JobFileError, match=r"`as_text` names 'di', which is not read\. Known: id, text"):
        read("id,text\n1,x\n", as_text=("di",))


def test_another_delimiter_is_given(read):
    assert read('a;b\n1;"x;y, z"\n', delimiter=";").to_dict("list") == {"a": [1], "b": ["x;y, z"]}
    assert read("a\tb\n1\tx\n", delimiter="\t").to_dict("list") == {"a": [1], "b": ["x"]}


def test_files_have_the_columns_of_the_first_in_any_order(tmp_path):
    (tmp_path / "1.csv").write_text("id,text\n1,a\n")
    (tmp_path / "2.csv").write_text("text,id\nb,2\n")
    assert read_all(source_of(tmp_path)).to_dict("list") == {"id": [1, 2], "text": ["a", "b"]}
    (tmp_path / "3.csv").write_text("id,txt\n3,c\n")
    with pytest.raises(ConfigurationError, match=r"3\.csv lacks 'text' and has 'txt'"):
        read_all(source_of(tmp_path))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", ""])
def test_a_header_without_records_is_an_empty_input(tmp_path, line_end):
    (tmp_path / "a.csv").write_bytes(b"id,text" + line_end.encode())
    source = source_of(tmp_path / "a.csv")
    assert (source.rows, source.pieces(), list(source.meta.columns)) == (0, [], ["id", "text"])


def test_a_piece_travels_and_holds_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n" + "1,canary\n" * 10)
    piece = source_of(tmp_path / "a.csv").pieces()[0]
    assert b"canary" not in pickle.dumps(piece)
    assert pickle.loads(pickle.dumps(piece)).read().equals(piece.read())


@pytest.mark.parametrize("now", ["id,text\n1,a\n", "id,text\n1,a\n2b,\n\n3,\n", "id,text\n1,a\n2,b\n3,c,d\n"])
def test_a_file_that_changed_since_it_was_scanned_is_not_answered(tmp_path, now):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n2,b\n3,c\n")
    piece = source_of(path).pieces()[0]
    path.write_text(now)
    with pytest.raises(CuratorLLMError):
        piece.read()


def test_a_long_field_is_read(read):
    assert read("id,text\n1," + "x" * 300_000 + "\n")["text"].str.len().tolist() == [300_000]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": {"csv": "out"}}, "output: CSV is read, not written: give `parquet` or `jsonl`"),
        ({"input": {"csv": "a.csv", "delimiter": "||"}}, "input.delimiter: is '||': give one ASCII character"),
        ({"input": {"csv": "a.csv", "delimiter": '"'}}, "input.delimiter"),
        ({"input": {"csv": "a.csv", "as_text": "id"}}, "input.as_text: is 'id': give a list"),
        ({"input": {"jsonl": "a.jsonl", "as_text": ["id"]}}, "input: `as_text` is of csv; this input is jsonl"),
        ({"input": {"parquet": "a", "as_number": ["id"]}}, "`as_number` is of csv and jsonl; this input is parquet"),
        ({"input": {"csv": "a", "as_number": ["id"], "as_text": ["id"]}}, "`as_text` and `as_number` both name 'id'"),
    ],
)
def test_a_job_file_says_how_csv_is_read(kit, changes, said):
    with pytest.raises(JobFileError) as caught:
        kit.load(**changes)
    assert said in str(caught.value)


def test_a_job_reads_csv(kit):
    (kit.directory / "docs.csv").write_text('id;text\n007;"a\nb"\n008;c\n')
    ending = kit.run(input={"csv": "docs.csv", "columns": ["id", "text"], "delimiter": ";", "as_text": ["id"]})
    assert ending.exit_code == 0
    assert kit.output()[["id", "text"]].to_numpy().tolist() == [["007", "a\nb"], ["008", "c"]]
    assert kit.output()["topic__status"].eq("ok").all()
