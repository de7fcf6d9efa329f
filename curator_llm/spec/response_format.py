"""The form a reply must have: a JSON schema, a pydantic class, or ``response_format`` as the API takes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.spec.checks import check_json
from curator_llm.spec.json_schema import validator_of
from curator_llm.spec.nearest import nearest
from curator_llm.spec.strict_schema import strict_breach, strict_schema

_API_TYPES = ("text", "json_object", "json_schema")
_SCHEMA_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def response_format_of(value: Any) -> dict[str, Any]:
    """Return the ``response_format`` to send.

    Parameters
    ----------
    value : mapping or class
        As the API takes it; or a JSON schema, which is wrapped; or a pydantic model class, whose schema is made strict
        and wrapped. Types that only some servers know (``structural_tag``) pass as they are.

    Raises
    ------
    ConfigurationError
        For a schema that is not valid, refers to what is not in it, or is called strict and is not.

    Examples
    --------
    >>> schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    >>> response_format_of(schema)["json_schema"]["name"]
    'reply'
    """
    if isinstance(value, type) or hasattr(value, "model_json_schema"):
        return _checked(_wrapped(strict_schema(_schema_of_class(value)), value.__name__))
    if not isinstance(value, Mapping):
        msg = f"`response_format` is {value!r}: give a dict (the API's, or a JSON schema) or a pydantic model class."
        raise ConfigurationError(msg)
    check_json("response_format", value)
    kept: dict[str, Any] = json.loads(json.dumps(value))  # a copy: what is built does not change with its parts
    kind = kept.get("type")
    if not isinstance(kind, str) or kind in _SCHEMA_TYPES:
        return _checked(_wrapped(kept, kept.get("title")))
    hint = nearest(kind, (*_API_TYPES, *_SCHEMA_TYPES))
    if kind not in _API_TYPES and hint.startswith("Did you mean"):
        msg = f"`response_format` has the type {kind!r}. {hint}"
        raise ConfigurationError(msg)
    return _checked(kept)


def schema_text(response_format: Mapping[str, Any]) -> str | None:
    """Return the JSON text of the schema inside, None when there is none."""
    wrapper = response_format.get("json_schema") if response_format.get("type") == "json_schema" else response_format
    schema = wrapper.get("schema") if isinstance(wrapper, Mapping) else None
    return None if schema is None else json.dumps(schema)


def _checked(response_format: dict[str, Any]) -> dict[str, Any]:
    """Refuse what cannot work, before anything is sent."""
    if response_format.get("type") == "json_schema":
        wrapper = response_format.get("json_schema")
        if not isinstance(wrapper, dict) or not isinstance(wrapper.get("schema"), dict):
            msg = (
                "`response_format` has the type 'json_schema' and no schema: give {'type': 'json_schema', "
                "'json_schema': {'name': ..., 'schema': {...}}}, or the schema alone."
            )
            raise ConfigurationError(msg)
        name, strict = wrapper.get("name"), wrapper.get("strict")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            msg = f"`response_format` has the name {name!r}: give 1 to 64 of the characters A-Z, a-z, 0-9, _ and -."
            raise ConfigurationError(msg)
        if not isinstance(strict, bool | None):
            msg = f"`response_format` has strict={strict!r}: give true or false."
            raise ConfigurationError(msg)
        breach = strict_breach(wrapper["schema"]) if strict else None
        if breach is not None:
            msg = (
                f"`response_format` is strict, and {breach}. Or give {{'type': 'json_schema', 'json_schema': "
                "{'name': ..., 'strict': False, 'schema': ...}}: OpenAI then does not promise the form; replies are "
                "checked all the same."
            )
            raise ConfigurationError(msg)
    text = schema_text(response_format) if response_format.get("type") in _API_TYPES else None
    if text is not None:
        validator_of(text)
    return response_format


def _wrapped(schema: dict[str, Any], title: object) -> dict[str, Any]:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", title)[:64] if isinstance(title, str) and title else "reply"
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _schema_of_class(kind: Any) -> dict[str, Any]:
    """Ask a class for its schema. Pydantic is not imported: whoever has a class of it has it."""
    if not isinstance(kind, type):
        msg = f"`response_format` is an object of {type(kind).__name__}: give the class."
        raise ConfigurationError(msg)
    if not hasattr(kind, "model_json_schema"):
        old = hasattr(kind, "parse_obj") and hasattr(kind, "__fields__")
        what = "a class of pydantic 1" if old else "no model class"
        msg = (
            f"`response_format` is {kind.__name__}, {what}: derive it from pydantic 2's BaseModel, or give a JSON "
            "schema."
        )
        raise ConfigurationError(msg)
    try:
        schema = kind.model_json_schema()
    except Exception as error:  # noqa: BLE001  the class is the user's, and may raise anything
        msg = f"`response_format` is {kind.__name__}, which has no JSON schema: {str(error).splitlines()[0][:200]}."
        raise ConfigurationError(msg) from None
    check_json("response_format", schema)
    return dict(schema)
