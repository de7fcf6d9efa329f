"""The strict rules for JSON schemas: what OpenAI asks of a schema whose form it guarantees.

Every object lists its properties, requires all of them and allows no others; the root is an object. Source: OpenAI,
*Structured model outputs*, supported schemas. What servers change from release to release (how many properties, which
formats) is left to them: they say so before a row is paid for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_DEFINITIONS = ("$defs", "definitions")
#: Keywords that strict mode takes nowhere.
_REFUSED = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "prefixItems",
)
#: One of them says what a value is.
_SAYS_WHAT = frozenset({"type", "anyOf", "$ref", "enum", "const"})
#: What a class says and a strict schema has no use for: as every field is required, no default ever applies.
_DROPPED = frozenset({"default", "discriminator"})


def strict_schema(schema: Schema) -> dict[str, Any]:
    """Return the schema of a class in the strict form, as far as there is one.

    All properties become required, no others are allowed, ``oneOf`` becomes ``anyOf``, and a reference stands alone.

    Examples
    --------
    >>> strict_schema({"type": "object", "properties": {"a": {"type": "integer", "default": 1}}})
    {'type': 'object', 'properties': {'a': {'type': 'integer'}}, 'additionalProperties': False, 'required': ['a']}
    """
    reference = schema.get("$ref")
    if isinstance(reference, str):  # the root of a recursive class; strict mode wants an object there
        target = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        if isinstance(target, dict):
            schema = {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
    strict: dict[str, Any] = _strict(schema)
    return strict


def strict_breach(schema: Schema) -> str | None:
    """Return the first place that breaks the strict rules and what to do there; None when nothing does.

    Examples
    --------
    >>> strict_breach({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    "$ allows other properties: add 'additionalProperties': False"
    """
    if schema.get("type") != "object":
        return "$ is no object: make it a property of one"
    return next((f"{place} {what}" for place, part in _parts(schema) if (what := _breach(part))), None)


def _strict(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    strict: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("properties", *_DEFINITIONS) and isinstance(value, dict):
            strict[name] = {key: _strict(part) for key, part in value.items()}
        elif name in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            strict["anyOf" if name == "oneOf" and "anyOf" not in schema else name] = [_strict(part) for part in value]
        elif name not in _DROPPED:
            strict[name] = _strict(value) if name == "items" else value
    if len(strict.get("allOf", ())) == 1:
        strict = {**strict.pop("allOf")[0], **strict}
    if strict.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    if isinstance(strict.get("properties"), dict):
        strict["required"] = list(strict["properties"])
    if "$ref" in strict and len(strict) > 1:
        strict = {"anyOf": [{"$ref": strict.pop("$ref")}], **strict}
    return strict


def _breach(part: Any) -> str | None:
    if not isinstance(part, dict) or not _SAYS_WHAT & part.keys():
        return "does not say what it is: add a 'type'"
    refused = next((name for name in _REFUSED if name in part), None)
    if refused is not None:
        return f"has {refused!r}: " + ("use 'anyOf'" if refused == "oneOf" else "write it without")
    kinds = part["type"] if isinstance(part.get("type"), list) else [part.get("type")]
    if "array" in kinds and not isinstance(part.get("items"), dict):
        return "is an array of anything: add 'items'"
    if "object" not in kinds:
        return None
    if part.get("additionalProperties") is not False:
        return "allows other properties: add 'additionalProperties': False"
    required = part.get("required", [])
    optional = [name for name in part.get("properties", {}) if name not in required]
    if optional:
        return f"does not require {optional[0]!r}: add it to 'required' (what may be missing can be null)"
    return None


def _parts(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Give every schema inside a schema, itself first, with its place; without recursion, as it may be deep."""
    todo: list[tuple[str, Any]] = [("$", schema)]
    while todo:
        place, part = todo.pop()
        yield place, part
        if not isinstance(part, dict):
            continue
        inner: list[tuple[str, Any]] = []
        for name in ("properties", *_DEFINITIONS):
            if isinstance(part.get(name), dict):
                inner += [(f"{place}.{name}.{key}", value) for key, value in part[name].items()]
        if isinstance(part.get("anyOf"), list):
            inner += [(f"{place}.anyOf[{index}]", value) for index, value in enumerate(part["anyOf"])]
        if "items" in part:
            inner.append((f"{place}.items", part["items"]))
        todo += reversed(inner)
