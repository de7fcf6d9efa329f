"""The file ``ID`` of a journal: random, made once, so that processes can tell whether they see the same directory."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

_BYTES = 32
#: How long the process that makes the file may take to fill it.
_MAKING_S = 1.0
_LOOK_S = 0.02


def place_id(directory: Path) -> str | None:
    """Return what tells a journal's directory from every other, the same for all who see it; make it if need be.

    Parameters
    ----------
    directory : Path
        Of the journal; it is there.

    Returns
    -------
    str or None
        None where it cannot be read or made: then nothing can be said.
    """
    path = directory / "ID"
    try:
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return _read(path)
        try:
            os.write(file, uuid.uuid4().hex.encode())
        finally:
            os.close(file)
        return _read(path)
    except OSError:
        return None


def _read(path: Path) -> str | None:
    until = time.monotonic() + _MAKING_S
    while True:
        found = path.read_text(encoding="ascii", errors="replace").strip()
        if len(found) == _BYTES or time.monotonic() > until:
            return found if len(found) == _BYTES else None
        time.sleep(_LOOK_S)
