"""Replies that must be JSON: parsed, checked against the schema, and kept as the text the model sent.

Only I-JSON counts (RFC 7493), as only that reads alike everywhere: no NaN or Infinity, no name twice in an object, no
half of a surrogate pair; and no number too large for a float or longer than 1,000 digits.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never

from curator_llm.spec.json_schema import MAX_DEPTH, levels, validator_of
from curator_llm.spec.response_format import schema_text

_MAX_DIGITS = 1000
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_JSON_TYPES = frozenset({"json_object", "json_schema"})


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as JSON: `text` when it is what was asked for, else a code and why."""

    text: str | None
    code: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class JsonForm:
    """What a reply must be: an object, or what the schema says.

    Parameters
    ----------
    schema : str or None
        JSON text; it travels as such, and is compiled once per process.

    Notes
    -----
    Cost: no request. A reply of a few fields takes 6 us (1 of them for the schema), one of 1 kB 35 us, 1 MB of small
    objects 0.14 s.
    """

    schema: str | None

    @classmethod
    def of(cls, response_format: object) -> JsonForm | None:
        """Return what a ``response_format`` asks for, None when it is no JSON.

        Raises
        ------
        ConfigurationError
            When the schema is not valid, or jsonschema-rs is not installed.
        """
        if not isinstance(response_format, Mapping) or response_format.get("type") not in _JSON_TYPES:
            return None
        form = cls(schema_text(response_format))
        form.prepare()
        return form

    def prepare(self) -> None:
        """Compile the schema in this process, as for a worker that has not seen it yet.

        Raises
        ------
        ConfigurationError
            When jsonschema-rs is not installed here.
        """
        if self.schema is not None:
            validator_of(self.schema)

    def read(self, said: str) -> Reading:
        """Check a reply. Raises nothing, whatever the text."""
        text = _unfenced(said.strip().removeprefix("\ufeff").strip())
        if not text:
            return Reading(None, "not_json", "the reply is blank")
        try:
            value = _DECODER.decode(text)
            depth = _depth(text, value)
            if depth <= MAX_DEPTH and _SURROGATE_ESCAPE.search(text):
                json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Reading(None, "not_json", "half of a surrogate pair stands in a text")
        except ValueError as error:
            return Reading(None, "not_json", f"{str(error)[:120]}; the reply begins {repr(text[:40])[:80]}")
        except RecursionError:
            depth = MAX_DEPTH + 1
        if depth > MAX_DEPTH:
            return Reading(None, "not_json", f"it is nested deeper than {MAX_DEPTH} levels")
        wrong = self._complaint(value, len(text), depth)
        return Reading(None, "schema_mismatch", wrong) if wrong else Reading(text)

    def _complaint(self, value: Any, size: int, depth: int) -> str | None:
        if self.schema is not None:
            return validator_of(self.schema).complaint(value, size=size, depth=depth)
        return None if isinstance(value, dict) else "$: it is no object"


def _unfenced(text: str) -> str:
    """Take a Markdown code fence off, with its language: models add it, and it is not part of the JSON."""
    if len(text) < 6 or not (text.startswith("```") and text.endswith("```")):
        return text
    inside = text[3:-3].strip()
    return (inside[4:] if inside[:4].lower() == "json" else inside).strip()


def _depth(text: str, value: object) -> int:
    """Return how deep a value is nested; exact where it matters, and the number of brackets where those are few."""
    brackets = text.count("[") + text.count("{")
    if brackets <= 1:
        return brackets
    containers = (any(isinstance(item, list | dict) for item in level) for level in levels(value))
    return sum(itertools.islice(containers, MAX_DEPTH + 1))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        msg = f"the name {name[:40]!r} stands twice in one object"
        raise ValueError(msg)
    return found


def _float(literal: str) -> float:
    number = float(literal)
    if math.isfinite(number):
        return number
    return _no_number(literal)


def _int(literal: str) -> int:
    return int(literal) if len(literal) <= _MAX_DIGITS else _no_number(literal)


def _no_number(literal: str) -> Never:
    msg = f"{literal[:20]} is no number that JSON readers take"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_no_number)
