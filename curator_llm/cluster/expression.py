"""A stage on a Dask frame. The only module that uses Dask's private names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import dask.dataframe as dd
import pandas as pd
from dask.local import get_async

from curator_llm.spec.endpoint import Endpoint

_DASK = "dask.dataframe"


def is_dask_frame(frame: object) -> bool:
    """Tell whether a frame is lazy."""
    return isinstance(frame, dd.DataFrame)


def listen_to_workers(endpoint: Endpoint) -> None:
    """Have this process print the lines of its cluster's workers, if it is a client of one; check that cluster.

    Raises
    ------
    RunError
        When its scheduler or a worker has no curator_llm.
    """
    if "distributed" not in sys.modules:
        return
    from distributed import default_client

    from curator_llm.cluster.preflight import check_for_stage
    from curator_llm.cluster.stage_lines import listen

    try:
        client = default_client()
    except ValueError:
        return
    check_for_stage(client, endpoint)
    listen(client)


def empty_like(ddf: dd.DataFrame) -> pd.DataFrame:
    """Return an empty pandas frame with the columns and dtypes of a Dask frame."""
    return cast("pd.DataFrame", ddf._meta)  # noqa: SLF001  Dask's documents name it, but no public name leads there


def apply(stage: Callable[[pd.DataFrame], pd.DataFrame], ddf: dd.DataFrame, meta: pd.DataFrame) -> dd.DataFrame:
    """Return the frame with the stage's columns. Lazy: nothing is sent and no key is needed."""
    return cast("dd.DataFrame", ddf.map_partitions(stage, meta=meta))


def in_meta_inference() -> bool:
    """Tell whether Dask calls us on made-up rows to learn the schema, as it does wherever no ``meta`` is given."""
    frame: Any = sys._getframe(1)  # noqa: SLF001  Dask tells a function nowhere that its rows are made up
    while frame is not None:
        if frame.f_code is get_async.__code__:
            return False  # a compute runs: these are real rows
        # `emulate` runs a function on made-up rows; groupby and the like do so in their own `_meta`.
        name: str = frame.f_code.co_name
        if (name == "emulate" or name.startswith("_meta")) and frame.f_globals.get("__name__", "").startswith(_DASK):
            return True
        frame = frame.f_back
    return False
