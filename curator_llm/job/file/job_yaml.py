"""YAML in and out, as job files use it: no code, no key twice."""

from __future__ import annotations

from typing import Any

import yaml

from curator_llm.job.places import Place


class _Loader(yaml.SafeLoader):
    """YAML without code, that refuses a key that is given twice: the first one would be lost in silence."""


def _no_twins(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for name in names:
        if names.count(name) > 1:
            raise yaml.MarkedYAMLError(problem=f"the key {name!r} is given twice", problem_mark=node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_twins)


def parse_yaml(text: str, place: Place) -> Any:
    """Return what a text says.

    Raises
    ------
    JobFileError
        When it is no YAML, with line and column.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        msg = f"no YAML{where}: {problem}. Texts with `: ` or braces go in quotes."
        raise place.error(msg) from None


def yaml_text(value: Any) -> str:
    """Return a value as a job file's text, which `parse_yaml` reads back as it is."""
    text = _dump(value, allow_unicode=True)
    # PyYAML writes some characters plainly that it then reads as line breaks
    return _dump(value, allow_unicode=False) if any(break_ in text for break_ in "\x85\u2028\u2029") else text


def _dump(value: Any, *, allow_unicode: bool) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=allow_unicode, width=120))
