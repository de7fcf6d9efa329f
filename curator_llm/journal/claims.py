"""Who writes a segment: its writer holds the system's lock on the file, which ends with the process, however it ends.

Upkeep asks for the lock before it takes a segment's place: what a writer would append to the old file is lost.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def claim(file: int) -> bool:
    """Lock an open file for as long as it is open; return False where somebody else holds it.

    Where the file system knows no locks, all claims are granted.
    """
    try:
        import fcntl  # there is none on Windows
    except ImportError:  # pragma: no cover
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        pass
    return True


def has_writer(path: Path) -> bool:
    """Say whether a process still writes a segment; False for a file that is gone."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        return not claim(file.fileno())
    return False
