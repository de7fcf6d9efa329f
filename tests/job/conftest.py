"""A small dataset and a job over it, run with a cluster of threads in this process."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import yaml

from curator_llm.job.data.storage import StorePath
from curator_llm.job.file.job_file import load_job
from curator_llm.job.run import run_job
from curator_llm.testing import FakeServer

ROWS = 12


class JobKit:
    """Writes job files into the current directory and runs them."""

    def __init__(self, directory: Path, server: FakeServer) -> None:
        self.directory = directory
        self.server = server
        self.lines: list[str] = []
        self.given = {
            "version": 1,
            "run_dir": "run",
            "input": {"parquet": "docs.parquet"},
            "output": {"parquet": "out"},
            "endpoints": {"fake": {"model": "m", "base_url": server.base_url}},
            "stages": [
                {
                    "query_model": {
                        "endpoint": "fake",
                        "prompt": "Topic of {text}",
                        "output": "topic",
                        "generation": {"temperature": 0},
                    }
                }
            ],
        }

    def write(self, text: str | None = None, **changes) -> Path:
        """Write the job with some of its top-level keys changed, or a text of one's own."""
        path = self.directory / "job.yaml"
        path.write_text(text if text is not None else yaml.safe_dump({**self.given, **changes}, sort_keys=False))
        return path

    def load(self, settings=(), **changes):
        """Write and load the job."""
        return load_job(self.write(**changes), settings)

    def run(self, *, settings=(), limit=None, retry=None, wait=False, changed=False, **changes):
        """Write and run the job; the lines it says are kept."""
        self.lines.clear()
        job = dataclasses.replace(self.load(settings, **changes), limit=limit)
        return run_job(job, say=self.lines.append, processes=False, retry=retry, wait=wait, changed=changed)

    def output(self, name: str = "out") -> pd.DataFrame:
        """Read the Parquet output."""
        return pd.read_parquet(self.directory / name)


@pytest.fixture
def kit(tmp_path, monkeypatch, server) -> JobKit:
    monkeypatch.chdir(tmp_path)
    docs = pd.DataFrame({"id": range(ROWS), "text": [f"text {n}" for n in range(ROWS)]})
    docs.to_parquet(tmp_path / "docs.parquet", index=False)
    return JobKit(tmp_path, server)


@pytest.fixture
def bucket():
    """A directory of its own in the memory of this process."""
    url = f"memory://bucket-{uuid.uuid4().hex}"
    yield StorePath(url)
    fs = fsspec.filesystem("memory")
    if fs.exists(url):
        fs.rm(url, recursive=True)
