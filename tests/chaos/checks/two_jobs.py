"""R24: two jobs in one run directory: the same one waits or is refused, another one is refused and touches nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from curator_llm.errors import ConfigurationError
from curator_llm.job.file.job_file import load_job
from curator_llm.job.run import run_job
from curator_llm.testing import FakeServer, answer_to
from tests.chaos.frames import texts
from tests.chaos.scorecard import Figure, Setting

ID = "R24"
TITLE = "Two jobs in one run directory"
IN_TESTS = False

ROWS = 400
CAP = 8


def figures(setting: Setting) -> Iterator[Figure]:
    """Start the same job twice at once, a third time beside it, and others while it works and after it."""
    place = setting.scratch
    texts(ROWS).to_parquet(place / "docs.parquet")
    with FakeServer(latency=0.1) as server:
        job = _write(place / "job.yaml", _job(place, server))
        others = [_write(place / f"{number}.yaml", given) for number, given in enumerate(_others(place, server))]
        both = [_start(job, "--wait"), _start(job, "--wait")]
        server.wait_until(lambda ledger: ledger.requests > CAP, timeout_s=60)
        third = _start(job)
        refusals = [_refused(other) for other in others]
        codes = [process.wait() for process in both]
        yield Figure("the same job twice at once: not ended with 0", sum(map(bool, codes)), equals=0)
        yield Figure("the same job without --wait: exit code", third.wait(), equals=2)
        yield Figure("requests for 400 rows", server.ledger.requests, at_most=ROWS + CAP)
        out = pd.read_parquet(place / "out")
        yield Figure("rows wrong or lost", ROWS - int((out["a"] == out["text"].map(answer_to)).sum()), equals=0)
        before, requests = _listing(place), server.ledger.requests
        refusals += [_refused(other) for other in others]
        yield Figure("another job: seconds until it is refused", max(seconds for seconds, _ in refusals), at_most=1)
        yield Figure("another job: not refused", sum(not said for _, said in refusals), equals=0)
        named = sum(" -> " in said and "--changed" in said for _, said in refusals[len(others) :])
        yield Figure("another job: refused without what differs", len(others) - named, equals=0)
        after = _listing(place)
        touched = sum(before.get(name) != after.get(name) for name in before | after)
        yield Figure("another job: files touched", touched, equals=0)
        yield Figure("another job: requests", server.ledger.requests - requests, equals=0)


def _job(place: Path, server: FakeServer) -> dict[str, Any]:
    return {
        "version": 1,
        "run_dir": str(place / "run"),
        "input": {"parquet": str(place / "docs.parquet")},
        "output": {"parquet": str(place / "out")},
        "endpoints": {"m": {"model": "m", "base_url": server.base_url, "max_concurrent_requests": CAP}},
        "stages": [{"query_model": {"endpoint": "m", "prompt": "{text}", "output": "a"}}],
        "cluster": {"n_workers": 1},
    }


def _others(place: Path, server: FakeServer) -> Iterator[dict[str, Any]]:
    job = _job(place, server)
    stage = job["stages"][0]["query_model"]
    yield {**job, "stages": [{"query_model": {**stage, "prompt": "On {text}"}}]}
    yield {**job, "stages": [*job["stages"], {"filter": {"column": "a__status", "in": ["ok"]}}]}
    yield {**job, "output": {"parquet": str(place / "other")}}
    yield {**job, "input": {**job["input"], "columns": ["text"]}}
    yield {**job, "endpoints": {"m": {**job["endpoints"]["m"], "model": "n"}}}
    yield {**job, "endpoints": {"m": {**job["endpoints"]["m"], "revision": "2"}}}


def _write(file: Path, job: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(job))
    return file


def _start(job: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "curator_llm", "run", str(job), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _refused(job: Path) -> tuple[float, str]:
    """Return after how many seconds a job is refused, and what is said then; nothing for one that runs."""
    loaded = load_job(job)
    started, said = time.monotonic(), ""
    try:
        run_job(loaded, say=lambda _: None, processes=False)
    except ConfigurationError as error:
        said = str(error)
    return time.monotonic() - started, said


def _listing(place: Path) -> dict[str, tuple[int, str]]:
    """Return time of change and checksum of everything there."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(place.rglob("*"))
    }
