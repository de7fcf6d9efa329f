"""One sentence for an unknown name: the nearest known one, or all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant.

    Examples
    --------
    >>> nearest("max_token", ["max_tokens", "seed"])
    "Did you mean 'max_tokens'?"
    >>> nearest("zzz", ["max_tokens", "seed"])
    'Known: max_tokens, seed.'
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(map(_shown, names))}."


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)  # names of columns are data: they may hold line ends
