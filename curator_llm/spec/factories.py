"""References to functions that make clients: where one is found, as text; never the client, which holds a key."""

from __future__ import annotations

import re

from curator_llm.errors import ConfigurationError

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_EXAMPLE = "client='pkg.mod:factory'"


def check_factory(reference: object) -> None:
    """Refuse what is no text such as ``pkg.mod:factory``, and show how it is written. No value is shown: it may be one.

    Raises
    ------
    ConfigurationError
    """
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
        return
    if isinstance(reference, str):
        msg = (
            f"`client` is a text that names no function: write {_EXAMPLE}, a module that every worker can import and "
            "a function in it that makes the client."
        )
    elif callable(reference) and hasattr(reference, "__qualname__"):
        found = f"{reference.__module__}:{reference.__qualname__}"
        text = f"client={found!r}" if _REFERENCE.fullmatch(found) else _EXAMPLE
        msg = (
            f"`client` is the {'class' if isinstance(reference, type) else 'function'} {reference.__qualname__!r}: "
            f"give the text {text}. Each worker imports and calls it, without arguments."
        )
    else:
        msg = (
            f"`client` is of type {type(reference).__name__}: a client holds a key and connections and cannot travel. "
            f"Write a function without arguments that makes it, in a module that every worker can import, and pass "
            f"{_EXAMPLE}."
        )
    raise ConfigurationError(msg)
