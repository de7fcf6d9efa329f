"""report.json in words: what was asked, what it cost, where it is, and how to go on."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.frame.lines import dollars, summary_line
from curator_llm.job.again import manifest_of
from curator_llm.job.retries import Retry
from curator_llm.job.run_directory import RunDirectory

_WORDS = {
    "done": "Done.",
    "interrupted": "Interrupted.",
    "stopped": "Stopped for good.",
    "rows_failed": "Too many rows failed.",
    "budget": "The budget was reached.",
    "usage": "The job could not run.",
    "crashed": "Crashed.",
}
_WAYS = {
    "interrupted": "Go on with",
    "stopped": "Mend what the message says, then go on with",
    "rows_failed": "Ask the failed rows again with",
    "budget": "Raise `budget` in the job, then ask for the rest with",
    "usage": "Mend what the message says, then go on with",
    "crashed": "Go on with",
}


def report_text(run_dir: Path) -> str:
    """Return the last report of a run directory as text.

    Parameters
    ----------
    run_dir : Path

    Raises
    ------
    ConfigurationError
        When it is no run directory.
    """
    directory = RunDirectory(run_dir)
    manifest = manifest_of(run_dir)
    holder = directory.working()
    lines = [] if holder is None else [f"At work here: {holder}."]
    if not directory.report.exists():
        return "\n".join([*lines, "No execution has come to its end yet."])
    report = read_report(run_dir)
    if holder is not None:
        lines.append("How the execution before it ended:")
    elif manifest.get("lease", 0) > report.get("lease", 0):
        again = _again(manifest.get("job_file", "job.yaml"), manifest)
        lines.append(f"A later execution was killed: what it was answered is kept. Go on with: {again}")
        lines.append("How the execution before it ended:")
    return "\n".join([*lines, *_lines(run_dir, report)])


def read_report(run_dir: Path) -> dict[str, Any]:
    """Return what report.json says.

    Raises
    ------
    ConfigurationError
        When there is none, or it cannot be read.
    """
    file = RunDirectory(run_dir).report
    manifest_of(run_dir)
    report = None
    with contextlib.suppress(OSError, ValueError):
        report = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(report, dict):
        msg = f"{file} is not there or cannot be read: it is written when an execution ends."
        raise ConfigurationError(msg)
    return report


def _lines(run_dir: Path, report: Mapping[str, Any]) -> list[str]:
    limit = report.get("limit")
    lines = [
        f"{report['job_file']}: {_WORDS.get(report['status'], report['status'])} {report['started_at']} to "
        f"{report['ended_at']}, {report['rows_in']:,} rows in, {report['rows_out']:,} out"
        + (f", limited to the first {limit:,}" if limit else "")
    ]
    if report.get("message"):
        lines.append(report["message"])
    for stage in report["stages"]:
        lines += _stage(stage, report)
    retries = [Retry.of_json(said) for said in report.get("retries", [])]
    lines += dict.fromkeys(f"{retry.stage}: {retry}" for retry in retries)
    if report.get("budget"):
        lines.append(_budget(report["budget"]))
    if report.get("output"):
        lines.append(f"output: {next(iter(report['output'].values()))}")
    lines.append(f"replies: {report['journal']}")
    return [*lines, *_ways(run_dir, report)]


def _budget(budget: Mapping[str, Any]) -> str:
    spent = budget["spent"] or {}
    parts = [
        f"{dollars(spent.get(name, 0.0))} of {dollars(limit)}"
        if name == "usd"
        else f"{spent.get(name, 0):,.0f} of {limit:,.0f} {name}"
        for name, limit in budget["limits"].items()
    ]
    return f"budget: {' and '.join(parts)} spent, over all executions"


def _stage(stage: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    summary = summary_line(
        stage["output"],
        stage["statuses"],
        seconds=report["answering_seconds"],
        failures=stage["failures"],
        cost_usd=stage["cost_usd"],
        held_back_by=report.get("held_back_by"),
    )
    is_retried = any(retry["stage"] == stage["output"] for retry in report.get("retries", []))
    asked = f"{stage['model']} at {stage['endpoint']}{' and its retries' if is_retried else ''}"
    paid = (
        f"  {asked}: {stage['requests']:,} requests, {stage['attempts']:,} attempts, "
        f"{stage['input_tokens']:,} input tokens, {stage['output_tokens']:,} output tokens"
    )
    return [summary, paid]


def _ways(run_dir: Path, report: Mapping[str, Any]) -> list[str]:
    """Return the commands that go on from here."""
    again = _again(report["job_file"], report)
    if report["status"] in _WAYS:
        return [f"{_WAYS[report['status']]}: {again}"]
    lines = []
    if any(stage["statuses"].get("failed") for stage in report["stages"]):
        lines.append(f"Ask the failed rows again with: {again}")
    for stage in report["stages"]:
        if stage["statuses"].get("truncated"):
            named = f" --stage {shlex.quote(stage['output'])}" if len(report["stages"]) > 1 else ""
            retry = f"curator-llm retry {shlex.quote(str(run_dir))}{named} --status truncated"
            lines.append(f"Ask the truncated rows anew with: {retry} --set generation.max_tokens=...")
    return lines


def _again(job_file: str, said: Mapping[str, Any]) -> str:
    """Return the command of an execution, as a report or a manifest says it."""
    settings = [f"--set {shlex.quote(setting)}" for setting in said.get("overrides", [])]
    limit = [f"--limit {said['limit']}"] if said.get("limit") else []
    return " ".join(["curator-llm run", shlex.quote(job_file), *settings, *limit])
