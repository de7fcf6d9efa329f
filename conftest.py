"""What every test and doctest gets: a house of its own, and no way to the user's key, cache or proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import pytest

if TYPE_CHECKING:
    from curator_llm.testing import FakeServer

SURROUNDINGS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a journal directory, here and in the processes it starts, and hide the user's surroundings."""
    journal = tmp_path / "journal"
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DASK_CURATOR_LLM__JOURNAL__PATH", str(journal))
    with dask.config.set({"curator-llm.journal.path": str(journal)}):
        yield journal


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Serve an OpenAI-compatible API on the loopback interface."""
    from curator_llm.testing import FakeServer

    with FakeServer() as server:
        yield server
