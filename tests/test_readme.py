"""What the README shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import dask
import pandas as pd
import pytest

from curator_llm.job.job_file import load_job
from curator_llm.testing import FakeServer, answer_to

README = Path(__file__).parents[1] / "README.md"
LOCAL = re.compile(r"http://localhost:800[01]/v1")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # what Dask's to_parquet uses, pandas 3.1 is leaving
def test_the_python_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    pd.DataFrame({"text": ["a", "b"], "id": [1, 2]}).to_parquet("docs/part.parquet")
    names: dict = {}
    with FakeServer() as server, dask.config.set(scheduler="threads"):
        for block in blocks("python"):
            exec(LOCAL.sub(server.base_url, block), names)
    assert names["df"]["topic"].tolist()[0] == answer_to("Topic of: Interest rates rise")
    assert pd.read_parquet("tagged")["topic"].tolist() == [answer_to("Topic of: a"), answer_to("Topic of: b")]


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_job_file_is_one(block, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(block)
    assert len(load_job(path).steps) == 2
