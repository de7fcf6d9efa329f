"""A disk that is full, ill or read-only, through the stages that keep their replies there."""

from __future__ import annotations

import errno
import os

import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.errors import JournalError


@pytest.fixture
def stage(server):
    return QueryModel(Endpoint("m", base_url=server.base_url, max_concurrent_requests=2), prompt="{text}", output="a")


@pytest.fixture
def frame():
    return pd.DataFrame({"text": [f"row {n}" for n in range(20)]})


def failing(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_fails_stops_the_run_and_a_rerun_asks_what_is_missing(stage, frame, server, monkeypatch):
    server.change(latency=0.05)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", failing)
        with pytest.raises(JournalError, match="The disk is full: free space"):
            stage(frame)
    assert server.ledger.requests < 20
    out = stage(frame)
    assert out["a__status"].eq("ok").all()


def test_a_sync_that_fails_as_the_process_ends_is_said_and_raises_nothing(stage, frame, server, monkeypatch, caplog):
    stage(frame)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing)
        runtime.close()
    assert "Cannot sync" in caplog.text
    assert stage(frame)["a__status"].eq("ok").all()
    assert server.ledger.requests == 20
