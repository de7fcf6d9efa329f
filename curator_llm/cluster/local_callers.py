"""Whether anybody still waits for what Dask's threaded scheduler computes.

After Ctrl-C the scheduler is gone from the stack of the thread that called it, but its pool goes on with the partitions
that are open, and would go on paying. Nobody tells a pool thread; it can only look.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from dask import local


def is_in_pool() -> bool:
    """Tell whether this thread runs a task of Dask's local schedulers in a pool, not in the caller's own thread."""
    names = {frame.f_code for frame in _stack(sys._getframe())}  # noqa: SLF001  Dask does not say who runs a task
    return local.execute_task.__code__ in names and local.get_async.__code__ not in names


def anybody_waits() -> bool:
    """Tell whether any thread of this process waits in a local scheduler."""
    code: Any = local.get_async.__code__
    frames = sys._current_frames().values()  # noqa: SLF001  documented, for debuggers; there is no other way to see
    return any(frame.f_code is code for top in frames for frame in _stack(top))


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
