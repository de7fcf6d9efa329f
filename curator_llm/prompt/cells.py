"""The text of a cell.

Text is taken as it is; whole numbers without a decimal point, floats as ``repr``, dates in ISO 8601, lists and structs
as canonical JSON. A null sends nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec

from curator_llm.wire.exchange import Skip

NULL_INPUT = Skip("skipped", "null_input", "a column of the prompt is null")
BAD_TEXT = Skip(
    "rejected", "bad_text", "the prompt holds a lone surrogate, which UTF-8 cannot carry: clean the text first"
)
_BYTES = Skip("rejected", "bad_cell", "a column of the prompt holds bytes: decode it to text first")


def cell_texts(values: Sequence[object]) -> list[str | Skip]:
    """Return the text of each value; None and NaN become `NULL_INPUT`.

    Examples
    --------
    >>> cell_texts(["a", 3, 2.0, [1, {"b": None}], True])
    ['a', '3', '2.0', '[1,{"b":null}]', 'True']
    """
    return [value if type(value) is str else _text(value) for value in values]


def canonical_json(value: object) -> bytes:
    """Encode with sorted names and no spaces: equal values give equal bytes."""
    return msgspec.json.encode(value, enc_hook=_plain, order="deterministic")


def _text(value: Any) -> str | Skip:
    try:
        return _text_of(value)
    except UnicodeEncodeError:
        return BAD_TEXT
    except Exception:  # noqa: BLE001  a cell can hold anything, and a bad one never fails its partition
        text = f"a column of the prompt holds a {type(value).__name__}, which has no text form"
        return Skip("rejected", "bad_cell", text)


def _text_of(value: Any) -> str | Skip:
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and value.dtype.kind not in "mM":
        value = value.item()  # a numpy scalar; its times are read below, for as numbers they would lose their unit
    if isinstance(value, str):
        return str.__str__(value)  # a subclass, such as an enum, by its value
    if isinstance(value, bytes | bytearray | memoryview):
        return _BYTES
    if isinstance(value, list | tuple | dict | set | frozenset) or getattr(value, "ndim", None):
        return canonical_json(value).decode()
    if value is None or value != value:  #  NaN and NaT
        return NULL_INPUT
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int.__repr__(value) if isinstance(value, int) else float.__repr__(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise TypeError(type(value).__name__)  # its text would be an address in memory
    return str(value)  # bool, Decimal, UUID, Timedelta, Path


def _plain(value: Any) -> Any:
    """Turn what Parquet lists arrive as into what JSON knows: numpy arrays and scalars, times."""
    if isinstance(value, dt.date | dt.time):
        return None if value != value else value.isoformat()  #  NaT
    if hasattr(value, "tolist") and value.dtype.kind in "mM":
        return [str(time) for time in value] if value.ndim else str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(type(value).__name__)
