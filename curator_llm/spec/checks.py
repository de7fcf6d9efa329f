"""Checks that the specs share. Each says what a value is and what to give instead."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from typing import Any

import msgspec

from curator_llm.errors import ConfigurationError
from curator_llm.spec.secrets import refuse_secrets

#: What a stage puts into the body itself.
_OWN_FIELDS = frozenset({"model", "messages", "stream", "n"})


def is_count(value: object) -> bool:
    """Tell whether a value is a whole number, 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def check_text(name: str, value: object) -> None:
    """Refuse what no request can carry: no text, line breaks, lone surrogates."""
    if not isinstance(value, str) or not value or not value.isprintable():
        msg = f"`{name}` is {value!r}: give a text of printable characters."
        raise ConfigurationError(msg)


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number, 1 or more."""
    if not is_count(value):
        msg = f"`{name}` is {value!r}: give a whole number, 1 or more."
        raise ConfigurationError(msg)


def check_limit(name: str, value: Any) -> None:
    """Refuse what is neither None, for no limit, nor a number above 0."""
    if value is not None and not (is_number(value) and value > 0):
        msg = f"`{name}` is {value!r}: give a number above 0, or leave it out for no limit."
        raise ConfigurationError(msg)


def check_json(name: str, value: object) -> None:
    """Refuse what cannot stand in a request's body, before a run finds out."""
    try:
        json.dumps(value, allow_nan=False)  # msgspec would write sets, bytes and NaN too, in some form
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"`{name}` holds what JSON cannot carry ({error}): give text, numbers, booleans, None, lists and dicts."
        raise ConfigurationError(msg) from None


def checked_extra_body(value: Any, parameters: Container[str] = ()) -> dict[str, Any] | None:
    """Return the fields in one order, as the bytes sent are the key; refuse the stage's own and the `parameters`."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        msg = f"`extra_body` is a {type(value).__name__}: give a dict of names and values."
        raise ConfigurationError(msg)
    for name in value:
        if name in _OWN_FIELDS:
            msg = f"`extra_body` sets {name!r}, which the stage sets itself: remove it from `extra_body`."
            raise ConfigurationError(msg)
        if name in parameters:
            msg = f"`extra_body` sets {name!r}, which is a parameter of its own: give it beside `extra_body`."
            raise ConfigurationError(msg)
    fields = {name: value[name] for name in sorted(value)}
    check_json("extra_body", fields)
    refuse_secrets(fields, "extra_body")
    return fields
