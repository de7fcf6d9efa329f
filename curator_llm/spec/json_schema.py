"""JSON schemas as validators: compiled once per process, offline, and safe on whatever a model writes.

Needs the extra ``schema`` (jsonschema-rs), loaded when the first schema is used.

- Nothing is fetched: a reference leads into the schema itself or to a published meta-schema, or it is an error.
- Patterns run in linear time (Rust's ``regex``): look-around and back-references are errors, no text makes one hang.
- A ``format`` is not checked: by the standard it is a note.
"""

from __future__ import annotations

import functools
import graphlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from curator_llm.errors import ConfigurationError

if TYPE_CHECKING:
    import jsonschema_rs

#: Deeper replies are not checked but refused: the validator is recursive, and threads may have small stacks.
MAX_DEPTH = 64
#: Finding the place of a mistake costs memory and, in a recursive schema, time that doubles with each level.
_MAX_EXPLAINED_CHARACTERS = 100_000
_MAX_EXPLAINED_DEPTH = 3
#: Integers beyond 64 bits all share one hash in the validator: `uniqueItems` compares each with each.
_MAX_UNIQUE_LONG_INTEGERS = 50

_REFERENCE = re.compile(r'"\$(?:ref|dynamicRef|recursiveRef)":\s*"([^"]*)"')
_DEFINITION = re.compile(r"#/(?:\$defs|definitions)/[^/]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Validator:
    """A compiled schema.

    Parameters
    ----------
    schema : str
        JSON text.

    Raises
    ------
    ConfigurationError
        When it is no valid schema or leads out of itself, or jsonschema-rs is not installed.

    Examples
    --------
    >>> validator = Validator('{"type": "object", "properties": {"n": {"type": "integer"}}}')
    >>> validator.complaint({"n": 1}, size=8, depth=1)
    >>> validator.complaint({"n": "one"}, size=12, depth=1)
    '$.n: "one" is not of type "integer"'
    """

    def __init__(self, schema: str) -> None:
        self._compiled = _compile(schema)
        self._is_recursive = _is_recursive(json.loads(schema))
        self._compares_items = '"uniqueItems"' in schema

    def complaint(self, value: Any, *, size: int, depth: int) -> str | None:
        """Return what is wrong with a value, and where in it; None when nothing is.

        Parameters
        ----------
        value : decoded JSON
        size, depth : int
            Characters of its text, and how deep it is nested: in what is large the place is not looked for.
        """
        if self._compares_items and _long_integers(value) > _MAX_UNIQUE_LONG_INTEGERS:
            return f"with uniqueItems, more than {_MAX_UNIQUE_LONG_INTEGERS} integers beyond 64 bits are not compared"
        if self._compiled.is_valid(value):
            return None
        if size <= _MAX_EXPLAINED_CHARACTERS and (not self._is_recursive or depth <= _MAX_EXPLAINED_DEPTH):
            try:
                self._compiled.validate(value)
            except ValueError as error:  # jsonschema_rs.ValidationError is one
                at = getattr(error, "instance_path", [])
                return f"{place(at)}: {_cut(str(getattr(error, 'message', error)))}"
        return "it does not match the schema (too large to say where)"


@functools.lru_cache(maxsize=256)
def validator_of(schema: str) -> Validator:
    """Return the validator for a schema's JSON text, compiled once per process."""
    return Validator(schema)


def levels(value: object) -> Iterator[list[Any]]:
    """Yield what stands on each level of a value, outermost first; without recursion, as it may be deep."""
    level = [value]
    while level:
        yield level
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, list | dict))
        level = [item for items in inner for item in items]


def place(path: list[str | int]) -> str:
    """Write where something stands in a value.

    Examples
    --------
    >>> place(["items", 2, "unit price"])
    '$.items[2]["unit price"]'
    """
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step}" if _NAME.fullmatch(step) else f"[{json.dumps(step)}]"
        for step in path
    )
    return _cut("$" + "".join(steps))


def _compile(schema: str) -> jsonschema_rs.Validator:
    try:
        import jsonschema_rs
    except ImportError:
        msg = (
            "A `response_format` with a JSON schema is checked with jsonschema-rs, which is not installed here: "
            "pip install 'curator-llm[schema]', on every worker."
        )
        raise ConfigurationError(msg) from None
    try:
        return jsonschema_rs.validator_for(
            schema, offline=True, validate_formats=False, pattern_options=jsonschema_rs.RegexOptions()
        )
    except jsonschema_rs.ValidationError as error:
        why = f"{place(error.instance_path)}: {_cut(error.message)}" if error.instance_path else error.message
        if error.message.endswith('is not a "regex"'):
            why += " (look-around and back-references are not taken, as servers do not take them)"
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        why = _cut(str(error))
    msg = f"`response_format` holds no valid JSON schema. {why}. References lead into the schema; none is fetched."
    raise ConfigurationError(msg) from None


def _is_recursive(schema: Any) -> bool:
    """Tell whether a schema leads back into itself, or may: what is no plain reference is taken for one that does."""
    if not isinstance(schema, dict):
        return False
    rest = {name: value for name, value in schema.items() if name not in {"$defs", "definitions"}}
    graph = {"#": _references(rest)}
    for group in ("$defs", "definitions"):
        for name, part in (schema.get(group) or {}).items():
            graph[f"#/{group}/{name}"] = _references(part)
    if any(not _DEFINITION.fullmatch(target) for targets in graph.values() for target in targets):
        return True
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError:
        return True
    return False


def _long_integers(value: object) -> int:
    return sum(isinstance(item, int) and not -(2**63) <= item < 2**63 for level in levels(value) for item in level)


def _references(schema: Any) -> set[str]:
    return set(_REFERENCE.findall(msgspec.json.encode(schema).decode()))


def _cut(text: str) -> str:
    """Keep a message to one line, without its middle: what is long in it is data, and the point stands at the end."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= 120 else f"{line[:40]} … {line[-70:]}"
