"""Stores: which URLs and options a job file may have, and inputs and jobs on them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curator_llm.errors import ConfigurationError, JobFileError, RunError
from curator_llm.job.check import check_job
from curator_llm.job.data import pieces
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.inputs import open_input
from curator_llm.job.data.storage import StorePath, read_location
from curator_llm.job.places import Place
from curator_llm.testing import answer_to

PLACE = Place("job.yaml", "input.parquet")


def put(path: StorePath, content: str | pa.Table, **options) -> None:
    with path.open("wb") as file:
        file.write(content.encode()) if isinstance(content, str) else pq.write_table(content, file, **options)


def open_at(path: StorePath, kind="parquet", columns=None):
    return open_input(Data(kind, path, PLACE, columns))


def read_all(source) -> pd.DataFrame:
    return pd.concat([piece.read() for piece in source.pieces()], ignore_index=True)


# --- what a job file may say ---


def test_a_file_url_is_a_local_path(tmp_path):
    assert read_location(f"file://{tmp_path}/docs", None, PLACE) == tmp_path / "docs"
    assert read_location("docs/a b", None, PLACE) == Path.cwd() / "docs/a b"


def test_a_url_is_kept_with_its_options():
    location = read_location("s3://team/docs/", {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}, PLACE)
    assert str(location) == "s3://team/docs"
    assert location.options == {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}


@pytest.mark.parametrize(
    "options",
    [
        {"key": "canary", "secret": "x"},
        {"secret": "canary"},
        {"token": "canary"},
        {"client_kwargs": {"aws_secret_access_key": "canary"}},
        {"sas_token": "canary"},
        {"connection_string": "canary"},
        {"password": "canary"},
        {"headers": {"Authorization": "canary"}},
        {"s3_additional_kwargs": {"SSECustomerKey": "canary"}},
        {"profile": "AKIACANARYCANARYCANA"},
        {"proxies": ["http://user:canary@proxy:1"]},
    ],
)
def test_an_option_that_looks_like_a_secret_is_refused_and_not_repeated(options):
    with pytest.raises(JobFileError) as caught:
        read_location("s3://team/docs", options, PLACE)
    assert "AWS_PROFILE" in str(caught.value)
    assert "canary" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "options",
    [
        {"token": "anon"},
        {"token": "/etc/gcs/service.json"},
        {"profile": "team", "endpoint_url": "https://minio.local:9000", "requester_pays": True},
        {"key_filename": "~/.ssh/id", "use_ssl": False, "token": None},
    ],
)
def test_options_without_secrets_are_taken(options):
    assert read_location("gs://team/docs", options, PLACE).options == options


@pytest.mark.parametrize("url", ["ftp://user:canary@host/docs", "https://host/a.parquet?X-Amz-Signature=canary"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(JobFileError, match="job files travel") as caught:
        read_location(url, None, PLACE)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": {"parquet": "docs", "storage_options": {"anon": True}}}, "'docs' is a local path"),
        ({"input": {"parquet": "s3://team/docs", "storage_options": ["anon"]}}, "is ['anon']: give a mapping"),
        ({"output": {"parquet": "s3://team"}}, "give the URL of a directory or file below a bucket"),
        ({"output": {"parquet": "s3://team/out-*"}}, "without `::` and wildcards"),
        ({"run_dir": "s3://team/run"}, "local and shared file systems only"),
    ],
)
def test_a_job_file_with_urls_that_cannot_work_is_refused(kit, changes, said):
    with pytest.raises(JobFileError) as caught:
        kit.load(**changes)
    assert said in str(caught.value)


def test_a_missing_package_is_named_with_its_pip_line():
    said = "Install nowherefs to access Nowhere"
    fsspec.register_implementation("nowhere", "no_such_package.FileSystem", clobber=True, errtxt=said)
    with pytest.raises(JobFileError) as caught:
        open_at(StorePath("nowhere://team/docs"))
    assert "nowhere://team/docs: Install nowherefs to access Nowhere (pip install nowherefs)" in str(caught.value)


def test_an_unknown_protocol_is_refused_for_outputs_too(kit):
    with pytest.raises(JobFileError, match=r"output\.parquet: s4://team/out cannot be reached"):
        check_job(kit.load(output={"parquet": "s4://team/out"}))


def test_an_output_around_the_input_is_refused_on_stores_too(kit, bucket):
    put(bucket / "docs" / "a.parquet", pa.table({"text": ["a"]}))
    for written in ("docs", "docs/out"):
        with pytest.raises(JobFileError, match="lie in each other"):
            check_job(kit.load(input={"parquet": f"{bucket}/docs"}, output={"parquet": f"{bucket}/{written}"}))
    assert check_job(kit.load(input={"parquet": f"{bucket}/docs"}, output={"parquet": f"{bucket}/out"}))


# --- inputs ---


def test_a_glob_on_a_store_passes_over_names_with_underscore(bucket):
    for name in ("a.jsonl", "_b.jsonl"):
        put(bucket / name, json.dumps({"name": name}))
    assert read_all(open_at(bucket / "*.jsonl", "jsonl"))["name"].tolist() == ["a.jsonl"]
    assert read_all(open_at(bucket / "_*.jsonl", "jsonl"))["name"].tolist() == ["_b.jsonl"]


def test_parquet_on_a_store_has_the_pieces_it_has_on_disk(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(pieces, "FEWEST_ROWS", 4)
    for number, (name, rows) in enumerate({"part.10": 7, "part.2": 6}.items()):
        table = pa.table({"n": pa.array(range(rows), pa.int16()), "text": [f"{number}"] * rows})
        put(bucket / "docs" / f"{name}.parquet", table, row_group_size=3)
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=3)
    source, local = open_at(bucket / "docs"), open_input(Data("parquet", tmp_path, PLACE))
    assert source.schema.equals(local.schema)
    assert [len(piece.row_groups) for piece in source.pieces()] == [len(piece.row_groups) for piece in local.pieces()]
    pd.testing.assert_frame_equal(read_all(source), read_all(local))
    assert source.rows == 13


def test_files_on_a_store_are_found_as_on_disk(bucket):
    for number in (10, 2, 1):
        put(bucket / f"part.{number}.jsonl", json.dumps({"n": number}))
    put(bucket / "_metadata.jsonl", "no data")
    put(bucket / "README.txt", "no data")
    put(bucket / "deep" / "x.jsonl", '{"n": 99}')
    assert read_all(open_at(bucket, "jsonl"))["n"].tolist() == [99, 1, 2, 10]
    assert read_all(open_at(bucket / "part.1*.jsonl", "jsonl"))["n"].tolist() == [1, 10]
    assert read_all(open_at(bucket / "part.2.jsonl", "jsonl"))["n"].tolist() == [2]


def test_directories_named_by_value_become_columns_on_a_store_too(bucket):
    for language in ("de", "en"):
        put(bucket / f"lang={language}" / "a.parquet", pa.table({"n": [1]}))
    assert read_all(open_at(bucket))["lang"].tolist() == ["de", "en"]
    assert read_all(open_at(bucket / "lang=*" / "*.parquet"))["lang"].tolist() == ["de", "en"]


def test_csv_is_read_from_a_store(bucket):
    put(bucket / "a.csv", 'id,text\n007,"a\nb"\n')
    assert read_all(open_at(bucket / "a.csv", "csv")).to_dict("records") == [{"id": "007", "text": "a\nb"}]


@pytest.mark.parametrize("name", ["no.parquet", "*.parquet", ""])
def test_an_input_that_is_not_on_the_store_is_refused(bucket, name):
    put(bucket / "README.txt", "no data")
    with pytest.raises(JobFileError, match=r"no such file|no \.parquet"):
        open_at(bucket / name if name else bucket)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_pieces_of_a_store_travel_with_its_options(bucket, kind):
    content = {"jsonl": '{"n": 1}\n', "csv": "n\n1\n", "parquet": pa.table({"n": [1]})}[kind]
    put(bucket / f"a.{kind}", content)
    source = open_at(StorePath(f"{bucket}/a.{kind}", {"skip_instance_cache": False}), kind)
    piece = pickle.loads(pickle.dumps(source.pieces()[0]))
    assert piece.read()["n"].tolist() == [1]


class Refusing(MemoryFileSystem):
    """A store whose errors hold a secret."""

    protocol = "refusing"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("refusing://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        raise ValueError("https://host/?X=Bearer canary-9c1f")

    def _open(self, path, mode="rb", **kwargs):
        raise RuntimeError("canary-9c1f")


def test_what_a_store_raises_is_an_error_of_ours_without_its_secrets():
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/refused/a.jsonl", b'{"n": 1}\n')
    fs.pipe_file("/refused/a.parquet", b"PAR1")
    with pytest.raises(JobFileError, match=r"refusing://.*a\.jsonl cannot be reached \(RuntimeError\)") as caught:
        open_at(StorePath("refusing://refused/a.jsonl"), "jsonl")
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    piece = open_at(StorePath("memory://refused"), "jsonl").pieces()[0]
    with pytest.raises(JobFileError, match=r"refusing://refused cannot be reached \(RuntimeError\)"):
        open_at(StorePath("refusing://refused"))
    object.__setattr__(piece.span.file, "fs", fsspec.filesystem("refusing"))
    with pytest.raises(RunError, match=r"\(ValueError\)"):
        piece.read()
    fs.rm("/refused", recursive=True)


# --- jobs ---


def texts(rows: int) -> list[str]:
    return [f"text {n}" for n in range(rows)]


def test_a_job_reads_and_writes_parquet_on_a_store(kit, bucket, monkeypatch):
    monkeypatch.setattr(pieces, "FEWEST_ROWS", 5)
    put(bucket / "docs" / "a.parquet", pa.table({"id": list(range(12)), "text": texts(12)}), row_group_size=4)
    job = {"input": {"parquet": f"{bucket}/docs"}, "output": {"parquet": f"{bucket}/out"}}
    for asked in (12, 12):  # the second time it replaces its own
        assert kit.run(**job).exit_code == 0
        out = read_all(open_at(bucket / "out"))
        assert out["topic"].tolist() == [answer_to(f"Topic of {text}") for text in texts(12)]
        assert sorted((bucket / "out").files()) == [f"part-0000{n}.parquet" for n in range(3)]
        assert sorted(path.rpartition("/")[2] for path in bucket.fs.ls(bucket.path, detail=False)) == ["docs", "out"]
        assert kit.server.ledger.requests == asked


def test_a_job_writes_one_file_of_json_lines_on_a_store(kit, bucket, monkeypatch):
    monkeypatch.setattr(pieces, "FEWEST_ROWS", 5)
    put(bucket / "docs.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts(12)))
    assert kit.run(input={"jsonl": f"{bucket}/docs.jsonl"}, output={"jsonl": f"{bucket}/out.jsonl"}).exit_code == 0
    assert read_all(open_at(bucket / "out.jsonl", "jsonl"))["text"].tolist() == texts(12)
    assert sorted(bucket.files()) == ["docs.jsonl", "out.jsonl"]


def test_an_output_of_somebody_else_on_a_store_is_refused_before_anything_is_sent(kit, bucket):
    put(bucket / "out" / "precious", "data")
    with pytest.raises(ConfigurationError, match="did not write it"):
        kit.run(output={"parquet": f"{bucket}/out"})
    assert (bucket / "out").files().keys() == {"precious"}
    assert kit.server.ledger.requests == 0


def test_a_stopped_run_leaves_nothing_on_the_store(kit, bucket):
    kit.server.change(models=["other"])
    assert kit.run(output={"parquet": f"{bucket}/out"}).exit_code == 3
    assert bucket.files() == {}


def test_a_run_whose_store_fails_during_the_move_says_so_and_the_next_one_ends_it(kit, bucket, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cp_file", fail)
        ending = kit.run(output={"parquet": f"{bucket}/out"})
    assert (ending.exit_code, ending.message) == (3, kit.lines[-2])
    assert "(connection lost)" in ending.message
    assert "run the same command to end that" in ending.message
    assert kit.lines[-1].endswith(f"{bucket}/out is in its place in part.")
    assert kit.run(output={"parquet": f"{bucket}/out"}).exit_code == 0
    assert list(bucket.files()) == ["out/part-00000.parquet"]
    assert kit.server.ledger.requests == 12


def test_an_output_at_a_file_url_is_a_local_one(kit):
    assert kit.run(output={"parquet": f"file://{kit.directory}/out"}).exit_code == 0
    assert kit.output()["topic__status"].eq("ok").all()
