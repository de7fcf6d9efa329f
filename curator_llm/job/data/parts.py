"""The parts of an output, one per piece, in a directory beside its path: written whole, joined, cleared of strays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from curator_llm.errors import RunError
from curator_llm.job.data.storage import Location


def write_part(directory: Location, name: str, content: bytes) -> None:
    """Write a file that appears under its name when it is whole: two workers may write the same piece.

    Raises
    ------
    RunError
        When it cannot be written: no room, no right, a store that does not take it.
    """
    if not isinstance(directory, Path):
        (directory / name).write_bytes(content)  # one request; an object is there whole or not at all
        return
    new = directory / f"{name}.{os.urandom(4).hex()}.new"
    with _written(directory / name):
        try:
            with new.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(directory / name)
        finally:
            new.unlink(missing_ok=True)


def join_lines(directory: Location, file: Location) -> None:
    """Write all parts of a directory into one file, in their order.

    Raises
    ------
    RunError
        When it cannot be written.
    """
    parts = [name for name in _names(directory) if name.startswith("part-") and name.endswith(".jsonl")]
    with _written(file), file.open("wb") as whole:
        for name in sorted(parts, key=_number):
            with (directory / name).open("rb") as lines:
                shutil.copyfileobj(lines, whole)
        if isinstance(file, Path):
            whole.flush()
            os.fsync(whole.fileno())


def remove_strays(directory: Location, parts: Iterable[int]) -> None:
    """Remove what tasks left that were killed, or done twice.

    Raises
    ------
    RunError
        When a part is not there: its worker wrote it somewhere else.
    """
    wanted = set(parts)
    found = set()
    for name in _names(directory):
        if not name.startswith("part-") or name.endswith(".new") or _number(name) not in wanted:
            (directory / name).unlink()
        else:
            found.add(_number(name))
    if found != wanted:
        msg = (
            f"{len(wanted - found):,} of {len(wanted):,} parts are not in {directory}, though all were written: name "
            "an output that is the same place for all workers and this process."
        )
        raise RunError(msg)


@contextmanager
def _written(file: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        msg = f"{file} cannot be written ({reason}). All replies are kept in the journal: mend it and run again."
        raise RunError(msg) from None


def _names(directory: Location) -> list[str]:
    return [file.name for file in directory.iterdir()] if isinstance(directory, Path) else list(directory.files())


def _number(name: str) -> int:
    return int(name.removeprefix("part-").partition(".")[0])
