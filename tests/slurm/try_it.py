"""Runs examples/slurm on the SLURM that is here: to its end, stopped, cancelled, and as one step. ``make slurm``.

Prints a line for everything it checks, and ends with 0 when all of it holds. A test server on loopback is the model.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from curator_llm.testing import FakeServerProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "slurm"
#: Rows for two workers: a run takes them a thousand at a time.
ROWS, PERMITS, LATENCY_S = 2_000, 64, 0.5
#: So many requests are sent when a job is stopped or cancelled.
_STOPPED_AT = 500
_LIMIT_S = 240
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


class Scenario:
    """A job in a directory of its own, and what is found out about it.

    Parameters
    ----------
    title : str
    directory : Path
    server : FakeServerProcess
    """

    def __init__(self, title: str, directory: Path, server: FakeServerProcess) -> None:
        self.directory, self.server = directory, server
        self.holds = True
        directory.mkdir(parents=True)
        example = (EXAMPLE / "job.yaml").read_text(encoding="utf-8")
        job = example.replace("http://vllm.ml.internal:8000/v1", server.base_url)
        job = job.replace("max_concurrent_requests: 512", f"max_concurrent_requests: {PERMITS}")
        (directory / "job.yaml").write_text(job, encoding="utf-8")
        rows = range(ROWS)
        texts = pd.DataFrame({"id": rows, "text": [f"{directory.name}, text {row}" for row in rows]})
        texts.to_parquet(directory / "docs.parquet")
        self._requests_before = server.ledger.requests
        print(f"\n{title}: {ROWS} rows, {PERMITS} permits, {LATENCY_S} s per request", flush=True)

    @property
    def requests(self) -> int:
        """How many requests the server was sent by this job."""
        return self.server.ledger.requests - self._requests_before

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the directory."""
        return subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )

    def submit(self) -> str:
        """Submit the example; returns the job's number."""
        return self.call("sbatch", "--parsable", str(EXAMPLE / "job.sbatch"), "job.yaml").stdout.strip()

    def hit(self, *how: str) -> None:
        """Call scancel, once some rows are answered."""
        _until(lambda: self.requests >= _STOPPED_AT)
        code = self.call("scancel", *how).returncode
        self.check(f"scancel {' '.join(how)} ended with", code, holds=code == 0)

    def end_of(self, number: str) -> dict[str, str]:
        """Wait for a job to end; returns what SLURM says of it."""
        said: dict[str, str] = {}

        def has_ended() -> bool:
            said.update(word.split("=", 1) for word in self.call(*_show(number)).stdout.split() if "=" in word)
            return said.get("JobState") in _ENDED

        _until(has_ended)
        return said

    def check(self, what: str, found: object, *, holds: bool) -> None:
        """Print what was found, and keep whether it is as it should be."""
        self.holds &= holds
        print(f"  {'ok' if holds else 'NO'}  {what}: {found}", flush=True)

    def check_job(self, number: str, state: str, *codes: int) -> None:
        """Check how a job of `sbatch` ended, by SLURM and by the exit codes in its log, one for each start."""
        said = self.end_of(number)
        found = " ".join(f"{key}={said.get(key)}" for key in ("JobState", "ExitCode", "Restarts"))
        as_it_should = f"JobState={state} ExitCode={codes[-1]}:0 Restarts={len(codes) - 1}"
        self.check(f"job {number}", found, holds=found == as_it_should)
        log = (self.directory / f"curator-llm-{number}.log").read_text(encoding="utf-8", errors="replace")
        ends = [line for line in log.splitlines() if line.startswith("curator-llm run ended with ")]
        self.check("log", " | ".join(ends), holds=ends == [f"curator-llm run ended with {code}" for code in codes])

    def check_rows(self, *, workers: int = 2, asked_again: int = 0) -> None:
        """Check what the run left, and what it asked for."""
        verified = self.call("curator-llm", "verify", "runs/topics")
        for line in (verified.stdout + verified.stderr).splitlines():
            print(f"    {line}")
        self.check("curator-llm verify runs/topics ended with", verified.returncode, holds=verified.returncode == 0)
        files = len(list(self.directory.glob("runs/topics/journal/seg/*")))
        self.check("journal", f"{files} files, one of each worker that answered", holds=files >= workers)
        more = self.requests - ROWS
        found = f"{self.requests} requests for {ROWS} rows, {more} more than rows; at most {asked_again} may be"
        self.check("server", found, holds=0 <= more <= asked_again)


def to_its_end(scenario: Scenario) -> None:
    """`sbatch`, and nothing else."""
    scenario.check_job(scenario.submit(), "COMPLETED", 0)
    scenario.check_rows()


def stopped(scenario: Scenario) -> None:
    """`sbatch`, and `scancel --signal=TERM` once some rows are answered: the job requeues itself and completes."""
    number = scenario.submit()
    scenario.hit("--signal=TERM", number)
    scenario.check_job(number, "COMPLETED", 75, 0)
    scenario.check_rows(workers=4, asked_again=PERMITS)


def cancelled(scenario: Scenario) -> None:
    """`sbatch`, and `scancel`: the job ends for good, and the same command goes on."""
    number = scenario.submit()
    scenario.hit(number)
    scenario.check_job(number, "CANCELLED", 75)
    scenario.check_job(scenario.submit(), "COMPLETED", 0)
    scenario.check_rows(workers=4, asked_again=PERMITS)


def one_step(scenario: Scenario) -> None:
    """`srun`: scheduler, driver and two workers are tasks of one step."""
    began = time.monotonic()
    step = scenario.call("srun", "--ntasks=4", "curator-llm", "run", "job.yaml")
    took = f"{step.returncode}, after {time.monotonic() - began:.0f} s"
    scenario.check("srun --ntasks=4 curator-llm run job.yaml ended with", took, holds=step.returncode == 0)
    (scenario.directory / "srun.log").write_text(step.stdout + step.stderr, encoding="utf-8")
    scenario.check_rows()


def _show(number: str) -> tuple[str, ...]:
    return "scontrol", "--oneliner", "show", "job", number


def _until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            msg = f"not so within {_LIMIT_S} s: see the logs"
            raise TimeoutError(msg)
        time.sleep(0.2)


def main() -> int:
    """Run all scenarios; 0 when everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where the jobs run; what is left of earlier ones goes")
    place = parser.parse_args().directory.absolute() / "jobs"
    shutil.rmtree(place, ignore_errors=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # sbatch hands it on
    found = []
    with FakeServerProcess(latency=LATENCY_S) as server:
        for run in (to_its_end, stopped, cancelled, one_step):
            scenario = Scenario(run.__name__, place / run.__name__, server)
            run(scenario)
            found.append(scenario.holds)
    print(f"\n{sum(found)} of {len(found)} scenarios hold; logs in {place}")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
