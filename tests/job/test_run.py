"""Jobs from end to end: rows out, reruns, refusals, ends and reports."""

from __future__ import annotations

import errno
import itertools
import json
import os

import pandas as pd
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from curator_llm import runtime
from curator_llm.errors import ConfigurationError
from curator_llm.journal.upkeep import compact
from curator_llm.testing import answer_to, faults_named_in_prompt

TOPIC = {
    "query_model": {
        "endpoint": "fake",
        "prompt": "Topic of {text}",
        "output": "topic",
        "generation": {"temperature": 0},
    }
}
AGAIN = {"query_model": {"endpoint": "fake", "prompt": "Again {topic}", "output": "again"}}


def report(kit) -> dict:
    return json.loads((kit.directory / "run" / "report.json").read_text())


def leftovers(kit) -> list[str]:
    return sorted(path.name for path in kit.directory.iterdir() if "partial" in path.name or "replaced" in path.name)


def test_every_row_has_its_own_answer_in_the_order_of_the_input(kit, monkeypatch):
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 5)
    ending = kit.run(cluster={"threads_per_worker": 3})
    assert (ending.status, ending.exit_code, ending.message) == ("done", 0, None)
    out = kit.output()
    pd.testing.assert_frame_equal(out[["id", "text"]], pd.read_parquet("docs.parquet"))
    assert out["topic"].tolist() == [answer_to(f"Topic of {text}") for text in out["text"]]
    assert out["topic__status"].eq("ok").all()
    assert [path.name for path in sorted((kit.directory / "out").iterdir())] == [
        f"part-0000{n}.parquet" for n in range(3)
    ]
    assert (kit.directory / "run" / "_SUCCESS").exists()
    assert leftovers(kit) == []


def test_a_second_run_asks_nothing_and_writes_the_same(kit):
    kit.run()
    first, asked = kit.output(), kit.server.ledger.requests
    assert kit.run().exit_code == 0
    pd.testing.assert_frame_equal(kit.output(), first)
    assert kit.server.ledger.requests == asked == 12
    assert report(kit)["stages"][0]["requests"] == 0


def test_stages_follow_each_other_and_rows_that_a_filter_drops_are_counted_before(kit):
    stages = [TOPIC, {"filter": {"column": "id", "in": [2, 3]}}, AGAIN, {"filter": {"column": "id", "equals": 3}}]
    assert kit.run(stages=stages).exit_code == 0
    out = kit.output()
    topic = answer_to("Topic of text 3")
    assert out[["id", "topic", "again"]].to_numpy().tolist() == [[3, topic, answer_to(f"Again {topic}")]]
    assert [stage["rows"] for stage in report(kit)["stages"]] == [12, 2]
    assert [line.split(",")[0] for line in kit.lines[:2]] == ["topic: 12 rows", "again: up to 12 rows"]
    assert (report(kit)["rows_in"], report(kit)["rows_out"]) == (12, 1)


def test_the_lines_say_what_is_asked_and_how_it_ended(kit):
    kit.server.change(faults=faults_named_in_prompt)
    pd.DataFrame({"id": [1, 2, 3], "text": ["a", "http:400: b", None]}).to_parquet("docs.parquet")
    endpoints = {"fake": {**kit.given["endpoints"]["fake"], "price_usd": [1_000_000, 0]}}
    kit.run(endpoints=endpoints)
    before, cluster, after, end = kit.lines
    assert before.startswith(f"topic: 3 rows, m at {kit.server.base_url}, replies kept in ")
    assert cluster == "cluster: this machine, 1 worker with 2 threads, as nothing names another"
    assert after.startswith("topic: ok 1 · rejected 1 · skipped 1 (bad_request 1, null_input 1) · $3.00 · ")
    assert end == f"3 rows in {kit.directory / 'out'}"


def test_the_report_counts_what_this_execution_paid_once_whoever_waited_for_it(kit, monkeypatch):
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 2)
    pd.DataFrame({"text": ["a", "b"] * 6}).to_parquet("docs.parquet")
    kit.run(endpoints={"fake": {**kit.given["endpoints"]["fake"], "price_usd": [1, 1]}})
    stage, ledger = report(kit)["stages"][0], kit.server.ledger
    assert stage["statuses"] == {"ok": 12}
    assert stage["requests"] == stage["attempts"] == ledger.requests == 2
    assert (stage["input_tokens"], stage["output_tokens"]) == (ledger.input_tokens, ledger.output_tokens)
    assert stage["cost_usd"] == pytest.approx((ledger.input_tokens + ledger.output_tokens) / 1e6)
    assert report(kit)["output"] == {"parquet": str(kit.directory / "out")}
    assert report(kit)["status"] == "done"
    assert report(kit)["versions"]["curator_llm"]


def test_what_a_killed_execution_paid_stands_on_the_next_bill_and_what_was_billed_on_no_other(kit, monkeypatch):
    class KilledError(BaseException):
        """Stands for the end of the process."""

    def kill(*_: object) -> None:
        raise KilledError

    kit.run()
    with monkeypatch.context() as patch:
        patch.setattr("curator_llm.job.run.read_bills", kill)
        with pytest.raises(KilledError):
            kit.run(stages=[{"query_model": {**TOPIC["query_model"], "prompt": "Other {text}"}}], changed=True)
    kit.run(stages=[{"query_model": {**TOPIC["query_model"], "prompt": "Other {text}"}}])
    assert report(kit)["stages"][0]["requests"] == 12
    runtime.close()
    compact(kit.directory / "run" / "journal")
    kit.run(changed=True)
    assert report(kit)["stages"][0]["requests"] == 0
    assert kit.server.ledger.requests == 24


def test_json_lines_in_and_one_file_out(kit, monkeypatch):
    monkeypatch.setattr("curator_llm.job.data.pieces.MOST_BYTES", 100)
    rows = [{"id": n, "text": f"text {n}", "chat": [{"role": "user", "content": f"{n}"}]} for n in range(9)]
    (kit.directory / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat = {"query_model": {"endpoint": "fake", "messages": "chat", "output": "said"}}
    ending = kit.run(input={"jsonl": "docs.jsonl"}, output={"jsonl": "out.jsonl"}, stages=[TOPIC, chat])
    assert ending.exit_code == 0
    out = [json.loads(line) for line in (kit.directory / "out.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in rows[0]} for row in out] == rows
    assert [row["said"] for row in out] == [answer_to(str(n)) for n in range(9)]
    assert out[0]["said__error"] is None
    assert leftovers(kit) == []


def test_json_lines_go_into_a_directory_unless_the_path_says_file(kit):
    assert kit.run(output={"jsonl": "out"}).exit_code == 0
    assert [path.name for path in (kit.directory / "out").iterdir()] == ["part-00000.jsonl"]


def test_pieces_without_rows_and_without_answers_have_the_schema_of_all(kit, monkeypatch):
    monkeypatch.setattr("curator_llm.job.data.pieces.FEWEST_ROWS", 1)
    kit.server.change(faults=lambda prompt, _: "http:400" if prompt == "Topic of text 1" else None)
    pd.DataFrame({"id": [0, 1, 2], "text": [f"text {n}" for n in range(3)]}).to_parquet("docs.parquet")
    kit.run(stages=[{"filter": {"column": "id", "above": 0}}, TOPIC])
    schemas = [pq.read_schema(file) for file in (kit.directory / "out").iterdir()]
    assert len(schemas) == 3
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)


def test_an_empty_dataset_gives_an_empty_output_with_all_columns(kit):
    pd.DataFrame({"id": [1], "text": ["a"]}).iloc[:0].to_parquet("docs.parquet")
    assert kit.run().exit_code == 0
    assert kit.output().columns.tolist() == ["id", "text", "topic", "topic__status", "topic__error"]
    assert len(kit.output()) == 0


def test_a_rerun_with_a_changed_job_replaces_the_runs_own_output(kit):
    kit.run()
    kit.run(stages=[TOPIC, {"filter": {"column": "id", "below": 2}}], changed=True)
    assert kit.output()["id"].tolist() == [0, 1]
    assert kit.server.ledger.requests == 12


def test_an_output_of_somebody_else_is_refused_before_anything_is_sent(kit):
    (kit.directory / "out").mkdir()
    (kit.directory / "out" / "precious").write_text("data")
    with pytest.raises(ConfigurationError, match="did not write it"):
        kit.run()
    assert (kit.directory / "out" / "precious").read_text() == "data"
    assert kit.server.ledger.requests == 0


def test_a_wrong_key_stops_the_run_with_one_request_and_leaves_no_output(kit, monkeypatch):
    monkeypatch.setenv("WRONG_KEY", "canary-9c1f")
    kit.server.change(api_key="right")
    ending = kit.run(endpoints={"fake": {"model": "m", "base_url": kit.server.base_url, "api_key": "env:WRONG_KEY"}})
    assert (ending.status, ending.exit_code) == ("stopped", 3)
    assert "refused the key from env:WRONG_KEY" in ending.message
    assert kit.server.ledger.requests == 1
    assert not (kit.directory / "out").exists()
    assert leftovers(kit) == []
    assert report(kit)["status"] == "stopped"
    assert report(kit)["message"] == ending.message
    written = "".join(path.read_text() for path in (kit.directory / "run").rglob("*") if path.is_file())
    assert "canary" not in written + "".join(kit.lines)


def test_a_stopped_run_keeps_the_output_of_the_one_before(kit):
    kit.run()
    before = kit.output()
    kit.server.change(models=["other"])
    ending = kit.run(stages=[{"query_model": {**TOPIC["query_model"], "prompt": "Anew {text}"}}], changed=True)
    assert ending.exit_code == 3
    pd.testing.assert_frame_equal(kit.output(), before)
    assert not (kit.directory / "run" / "_SUCCESS").exists()


@pytest.mark.parametrize(("whole", "requests"), [(0, 0), (5, 12)])
def test_a_run_directory_on_a_full_disk_stops_the_run_with_a_message_and_it_goes_on_later(
    kit, monkeypatch, whole, requests
):
    syncs, real = itertools.count(), os.fsync

    def fsync(file: int) -> None:
        if next(syncs) >= whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        ending = kit.run()
    assert (ending.status, ending.exit_code) == ("stopped", 3)
    assert "No space left on device. The disk is full: free space." in ending.message
    assert not any("Traceback" in line for line in kit.lines)
    assert kit.server.ledger.requests == requests
    assert kit.run().exit_code == 0
    assert kit.server.ledger.requests == 12


def test_too_many_failed_rows_are_an_end_of_their_own(kit):
    kit.server.change(faults=lambda _, __: "http:400")
    ending = kit.run(stages=[{"query_model": {**TOPIC["query_model"], "fail_on_error": 0.5}}])
    assert (ending.status, ending.exit_code) == ("rows_failed", 4)
    assert "12 of 12 rows" in ending.message


def test_a_crash_is_reported_without_its_text_which_nobody_has_checked_for_secrets(kit, monkeypatch):
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("canary-9c1f")

    monkeypatch.setattr("curator_llm.job.driver.make_output", crash)
    ending = kit.run()
    assert (ending.status, ending.exit_code) == ("crashed", 1)
    assert "Traceback" in "".join(kit.lines)
    assert "canary" not in (kit.directory / "run" / "report.json").read_text()
    assert not (kit.directory / "out").exists()


def test_a_cluster_that_is_there_is_used_and_left_running(kit):
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        assert kit.run(cluster={"scheduler": cluster.scheduler_address}).exit_code == 0
        assert client.submit(len, "abc").result() == 3
    assert kit.output()["topic__status"].eq("ok").all()


def test_a_scheduler_that_is_not_there_stops_the_run(kit, monkeypatch):
    monkeypatch.setattr("curator_llm.job.attach._CONNECT_S", 0.5)
    ending = kit.run(cluster={"scheduler": "tcp://127.0.0.1:9"})
    assert ending.exit_code == 3
    assert "No scheduler answers at 'tcp://127.0.0.1:9'" in ending.message


@pytest.mark.slow
def test_an_embedded_model_answers_and_its_replies_are_found_on_another_port(kit):
    pd.DataFrame({"text": ["A dog barks.", "A cat sleeps."]}).to_parquet("docs.parquet")
    choose = {"query_model": {"endpoint": "small", "prompt": "Dog or cat? {text}", "choices": ["dog", "cat"]}}
    for requests in (2, 0):
        ending = kit.run(endpoints={"small": {"local": "smollm2", "slots": 2}}, stages=[choose])
        assert ending.exit_code == 0
        assert report(kit)["stages"][0]["requests"] == requests
    assert kit.output()["completion__status"].tolist() == ["ok", "ok"]
    assert report(kit)["stages"][0]["endpoint"] == "local:smollm2"
