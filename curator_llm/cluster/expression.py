"""A stage on a Dask frame. The only module that uses Dask's private names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, cast
from weakref import WeakSet

import dask.dataframe as dd
import pandas as pd

#: Frames between Dask's meta inference and a stage: emulate, stage, and a wrapper or two.
_DEPTH = 12

#: Clients whose workers' lines are printed here.
_heard: WeakSet[Any] = WeakSet()


def is_dask_frame(frame: object) -> bool:
    """Tell whether a frame is lazy."""
    return isinstance(frame, dd.DataFrame)


def listen_to_workers() -> None:
    """Have this process print the lines of its cluster's workers, if it is a client of one. Done once per client."""
    if "distributed" not in sys.modules:
        return
    from distributed import default_client

    from curator_llm.cluster.stage_lines import listen

    try:
        client = default_client()
    except ValueError:
        return
    if client not in _heard:
        _heard.add(client)
        listen(client)


def empty_like(ddf: dd.DataFrame) -> pd.DataFrame:
    """Return an empty pandas frame with the columns and dtypes of a Dask frame."""
    return cast("pd.DataFrame", ddf._meta)  # noqa: SLF001  Dask's documents name it, but no public name leads there


def apply(stage: Callable[[pd.DataFrame], pd.DataFrame], ddf: dd.DataFrame, meta: pd.DataFrame) -> dd.DataFrame:
    """Return the frame with the stage's columns. Lazy: nothing is sent and no key is needed."""
    return cast("dd.DataFrame", ddf.map_partitions(stage, meta=meta))


def in_meta_inference() -> bool:
    """Tell whether Dask calls us on made-up rows to learn the schema, as ``map_partitions`` without ``meta`` does."""
    if _emulate is None:
        return False
    frame: Any = sys._getframe(1)  # noqa: SLF001  Dask tells a function nowhere that its rows are made up
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if frame.f_code is _emulate:
            return True
        frame = frame.f_back
    return False


def _emulate_code() -> CodeType | None:
    try:
        from dask.dataframe.dask_expr._expr import emulate
    except ImportError:  # a Dask that infers otherwise; a test watches for it
        return None
    return emulate.__code__


_emulate = _emulate_code()
