"""How an input is cut: a piece is what one Dask task reads, answers and writes.

Pieces depend on the data alone, not on the cluster or on how a file was cut before, so memory stays bounded and two
runs write the same files.
"""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from curator_llm.job.places import Place
from curator_llm.spec.nearest import nearest

#: Rows of a piece. Few enough that a partition's requests and replies fit into memory many times.
MOST_ROWS = 25_000
#: Bytes of a piece of JSONL or CSV, unless one record has more.
MOST_BYTES = 32 * 2**20
#: How many pieces a job has at least, if they have `FEWEST_ROWS`: several workers want their share.
FEWEST_PIECES = 32
FEWEST_ROWS = 500


class Piece(Protocol):
    """Rows that are read and answered together; travels to a worker."""

    @property
    def rows(self) -> int:
        """How many there are."""

    def read(self) -> pd.DataFrame:
        """Return the rows."""


def rows_per_piece(rows: int) -> int:
    """Return how many rows the pieces of so many rows have."""
    return min(MOST_ROWS, max(FEWEST_ROWS, -(-rows // FEWEST_PIECES)))


def check_read(key: str, wanted: tuple[str, ...], names: list[str], place: Place) -> None:
    """Check that the columns a key of the input names are read.

    Raises
    ------
    JobFileError
        When one of them is not.
    """
    for name in wanted:
        if name not in names:
            msg = f"`{key}` names {name!r}, which is not read. {nearest(name, names)}"
            raise place.error(msg)


def selected(names: list[str], columns: tuple[str, ...] | None, place: Place) -> list[str]:
    """Return the columns that are wanted, of those that are there.

    Raises
    ------
    JobFileError
        When one of them is not.
    """
    for name in columns or ():
        if name not in names:
            msg = f"`columns` names {name!r}, which the data does not have. {nearest(name, names)}"
            raise place.error(msg)
    return list(columns or names)
