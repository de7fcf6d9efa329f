"""Who writes a segment: its writer holds the system's lock on the file, which ends with the process, however it ends.

Upkeep asks for the lock before it takes a segment's place: what a writer would append to the old file is lost.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

#: Where there are no locks, who wrote a segment so short ago may write still.
_QUIET_S = 600.0


def claim(file: int) -> Literal["own", "taken", "unknown"]:
    """Lock an open file for as long as it is open; unknown where the system or the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return "unknown"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "taken"
    except OSError:  # a file system without locks
        return "unknown"
    return "own"


def has_writer(path: Path) -> bool:
    """Say whether a process still writes a segment, as far as that can be known; False for a file that is gone."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        state = claim(file.fileno())
        if state == "unknown":
            return time.time() - os.fstat(file.fileno()).st_mtime < _QUIET_S
        return state == "taken"
    return False
