"""A job over some rows, run in processes that can be killed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import dask
import pandas as pd
import yaml

from curator_llm.testing import answer_to

#: Children are forked from a process that has imported everything, so that each costs a moment.
_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(["distributed", "curator_llm.job.run", "curator_llm.frame.stages", "tests.chaos.jobs"])


def write_job(directory: Path, base_url: str, *, rows: int, permits: int, **changes: object) -> Path:
    """Write an input, and a job that asks for each of its rows; return its file."""
    frame = pd.DataFrame({"id": range(rows), "text": [f"row {n}" for n in range(rows)]})
    frame.to_parquet(directory / "docs.parquet", index=False)
    job = {
        "version": 1,
        "run_dir": str(directory / "run"),
        "input": {"parquet": str(directory / "docs.parquet")},
        "output": {"parquet": str(directory / "out")},
        "endpoints": {"fake": {"model": "m", "base_url": base_url, "max_concurrent_requests": permits}},
        "stages": [{"query_model": {"endpoint": "fake", "prompt": "{text}", "output": "a"}}],
    }
    file = directory / "job.yaml"
    file.write_text(yaml.safe_dump({**job, **changes}))
    return file


def is_whole(directory: Path, rows: int) -> bool:
    """Tell whether the job's output has each row once, in order, each with its own answer."""
    out = pd.read_parquet(directory / "out")
    texts = [f"row {n}" for n in range(rows)]
    return (
        out["id"].tolist() == list(range(rows))
        and out["text"].tolist() == texts
        and out["a"].tolist() == [answer_to(text) for text in texts]
        and set(out["a__status"]) == {"ok"}
    )


def in_a_child(function: Callable[..., object], *arguments: object) -> int:
    """Run a function in a process of its own; return its exit code."""
    process = _CHILDREN.Process(target=_quietly, args=(function, arguments))
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    return int(code or 0)


def _quietly(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    function(*arguments)


def run_here(file: Path, rows_per_piece: int, roll_records: int = 100_000) -> None:
    """Run a job with a cluster of threads in this process, and end the process as the command line would."""
    from curator_llm.job.data import pieces
    from curator_llm.job.file.job_file import load_job
    from curator_llm.job.run import run_job

    pieces.FEWEST_ROWS = rows_per_piece  # this process does nothing else
    with dask.config.set({"curator-llm.journal.roll-records": roll_records}):
        raise SystemExit(run_job(load_job(file), say=lambda _: None, processes=False).exit_code)


def run_to(failpoint: str, passing: int, file: Path, rows_per_piece: int, roll_records: int) -> None:
    """Run a job, and end at a failpoint."""
    from curator_llm.testing.failpoints import arm

    arm(failpoint, passing)
    run_here(file, rows_per_piece, roll_records)
