"""R8: what is wrong for every row stops the run after what is under way, and what was answered is kept."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dask.dataframe as dd
import pandas as pd

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.errors import CuratorLLMError
from curator_llm.testing import FakeServer, Ledger, faults_named_in_prompt
from tests.chaos.clusters import cluster_of_processes
from tests.chaos.frames import CAP, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R8"
TITLE = "Key, model, account, redirect or certificate are wrong, from the first row or from row 500"
IN_TESTS = True

KINDS = ("http:401", "http:403", "http:404", "insufficient_quota", "redirect")
ROWS, WORKERS, THREADS = 5_000, 2, 2
NOWHERE = "http://127.0.0.1:9/v1"


def figures(setting: Setting) -> Iterator[Figure]:
    """Meet each in this process, and in full form in those of a cluster."""
    for kind in KINDS[: setting.size(small=2, full=5)]:
        for row in (0, 500):
            yield from _here(setting, kind, row)
    yield from _certificate(setting)
    if not setting.small:
        with cluster_of_processes(WORKERS):
            for kind in KINDS:
                for row in (0, 500):
                    yield from _on_a_cluster(setting, kind, row)


def _here(setting: Setting, kind: str, row: int) -> Iterator[Figure]:
    name, frame = f"{kind} at row {row}", _going_wrong(kind, row)
    with FakeServer(faults=faults_named_in_prompt, redirect_to=NOWHERE, latency=0.005) as server:
        stage = _stage(server, setting.scratch / name.replace(":", " "), CAP)
        yield from _stopped(name, lambda: stage(frame), server, 1, CAP, row)
        runtime.close()
        kept = int((stage.replay(frame)["a__status"] == "ok").sum())
        yield Figure(f"{name}: answers that were not kept", server.ledger.by_status.get(200, 0) - kept, equals=0)


def _on_a_cluster(setting: Setting, kind: str, row: int) -> Iterator[Figure]:
    name, frame = f"{kind} at row {row}, {WORKERS} workers", _going_wrong(kind, row)
    with FakeServer(faults=faults_named_in_prompt, redirect_to=NOWHERE, latency=0.02) as server:
        stage = _stage(server, setting.scratch / name.replace(":", " "), CAP)
        out = stage(dd.from_pandas(frame, npartitions=20))
        yield from _stopped(name, out.compute, server, WORKERS, CAP // WORKERS, row)
        time.sleep(1)  # what was under way on the other worker ends, and is kept
        paid = server.wait_until(lambda ledger: not ledger.in_flight).by_status.get(200, 0)
        kept = int((stage.replay(frame)["a__status"] == "ok").sum())
        yield Figure(f"{name}: answers that were not kept", paid - kept, equals=0)


def _stopped(name: str, run, server: FakeServer, workers: int, permits: int, row: int) -> Iterator[Figure]:
    raised_s = float("inf")
    try:
        run()
    except CuratorLLMError:
        raised_s = time.monotonic()
    ledger = server.wait_until(lambda ledger: not ledger.in_flight)
    first_s = min((seen.done_s or 0 for seen in ledger.seen if seen.http not in (None, 200)), default=0)
    yield Figure(f"{name}: seconds until it is raised", raised_s - first_s, at_most=5)
    most = workers * permits if row else workers
    yield Figure(f"{name}: requests after the first refusal", _after(ledger, first_s), at_most=most)


def _after(ledger: Ledger, first_s: float) -> int:
    return sum(seen.at_s > first_s for seen in ledger.seen)


def _certificate(setting: Setting) -> Iterator[Figure]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = _self_signed(setting.scratch)
    context.load_cert_chain(certificate)
    with FakeServer(ssl=context) as server:
        stage = _stage(server, setting.scratch / "certificate", CAP)
        started = time.monotonic()
        try:
            stage(texts(100))
        except CuratorLLMError:
            yield Figure("certificate: seconds until it is raised", time.monotonic() - started, at_most=5)
        yield Figure("certificate: requests", server.ledger.requests, equals=0)


def _self_signed(directory: Path) -> Path:
    file = directory / "self-signed.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {file} -out {file}.crt -days 2 -subj /CN=127.0.0.1"
    subprocess.run(command.split(), check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def _going_wrong(kind: str, row: int) -> pd.DataFrame:
    return texts([f"row {n}" if n < row else f"{kind}: row {n}" for n in range(ROWS)])


def _stage(server: FakeServer, journal: Path, permits: int) -> QueryModel:
    endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=permits)
    return QueryModel(endpoint, prompt="{text}", output="a", journal=str(journal))
