"""Rows to ask, and a stage that asks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import FakeServer, FakeServerProcess

#: So many requests may be in flight.
CAP = 32


def texts(rows: int | Sequence[str | None]) -> pd.DataFrame:
    """Return a frame with a column `text`: these, or so many different ones."""
    values = [f"row {n}" for n in range(rows)] if isinstance(rows, int) else list(rows)
    return pd.DataFrame({"text": pd.array(values, dtype="string[pyarrow]")})


def asking(server: FakeServer | FakeServerProcess, *, journal: Path | None = None, **endpoint: object) -> QueryModel:
    """Return a stage that sends each text as it is, with tokens and attempts beside the answer `a`."""
    reached = Endpoint("m", **{"base_url": server.base_url, "max_concurrent_requests": CAP, **endpoint})
    details = ["input_tokens", "output_tokens", "attempts"]
    return QueryModel(reached, prompt="{text}", output="a", details=details, journal=journal and str(journal))
