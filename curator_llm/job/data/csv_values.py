"""What the texts of a CSV column are: numbers or booleans only where nothing is lost when they are read as such.

``007``, ``+1``, ``1e5`` and ``1.50`` stay text, and so do more digits than a number holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

#: The dtype of columns that are nothing else.
TEXT = "string[pyarrow]"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.(0|[0-9]*[1-9])")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


def _whole(text: str) -> int | None:
    value = int(text) if _WHOLE.fullmatch(text) else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def _number(text: str) -> float | None:
    """Return a number that 64 bits hold to the last digit; whole ones may stand among decimals."""
    if not (_DECIMAL.fullmatch(text) or _WHOLE.fullmatch(text)):
        return None
    value = float(text)
    return value if Decimal(repr(value)) == Decimal(text) else None


def as_number(text: str) -> float | None:
    """Return the number of a text that is known to be one, however it is written; None for no number.

    More digits of a fraction than 64 bits hold are rounded, those of a whole number are not.

    Examples
    --------
    >>> as_number("1.50"), as_number("+1e5"), as_number("007"), as_number("nan"), as_number("9007199254740993")
    (1.5, 100000.0, 7.0, None, None)
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    is_lost = not math.isfinite(value) or (text.lstrip("+-").isdecimal() and int(text) != value)
    return None if is_lost else value


#: How the values of a dtype are read; None for a text that is no such value.
READ: dict[str, Callable[[str], Any]] = {
    "Int64": _whole,
    "Float64": _number,
    "boolean": {"true": True, "false": False, "True": True, "False": False}.get,
}


def dtype_of(texts: Iterable[str | None]) -> str:
    """Return the first dtype that all texts of a column fit; without any, it is text.

    Examples
    --------
    >>> dtype_of(["1", None, "20"]), dtype_of(["0.5", "2"]), dtype_of(["007"])
    ('Int64', 'Float64', 'string[pyarrow]')
    """
    given = [text for text in texts if text is not None]
    fitting = (dtype for dtype, read in READ.items() if given and all(read(text) is not None for text in given))
    return next(fitting, TEXT)
