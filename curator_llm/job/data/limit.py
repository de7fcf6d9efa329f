"""The first rows of an input, for a try of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from curator_llm.job.data.inputs import Input
from curator_llm.job.data.pieces import Piece


@dataclass(frozen=True)
class FirstPiece:
    """The first rows of a piece."""

    piece: Piece
    rows: int

    def read(self) -> pd.DataFrame:
        """Return the rows."""
        return self.piece.read().iloc[: self.rows]


@dataclass(frozen=True)
class FirstRows:
    """The first rows of an input; an input itself.

    Parameters
    ----------
    source : Input
    limit : int
        How many rows, at most.
    """

    source: Input
    limit: int

    @property
    def meta(self) -> pd.DataFrame:
        """An empty frame with the columns and dtypes of every piece."""
        return self.source.meta

    @property
    def schema(self) -> Any:
        """The types on disk."""
        return self.source.schema

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return min(self.limit, self.source.rows)

    def pieces(self) -> list[Piece]:
        """Return the pieces, in the order of the rows."""
        pieces: list[Piece] = []
        left = self.rows
        for piece in self.source.pieces():
            if left <= 0:
                break
            pieces.append(piece if piece.rows <= left else FirstPiece(piece, left))
            left -= piece.rows
        return pieces
