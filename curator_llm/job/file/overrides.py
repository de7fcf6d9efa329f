"""``--set key=value``: values of a job file changed from the command line, by dotted paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curator_llm.job.file.job_yaml import parse_yaml
from curator_llm.job.file.stage_kinds import STAGES, output_of
from curator_llm.job.places import Place

#: Of two keys that say the same, the one that is set counts.
_TWINS = {"prompt": "prompt_file", "system": "system_file"}
_TWINS |= {twin: name for name, twin in _TWINS.items()}
#: How texts begin that YAML does not take as they stand.
_MARKED = ('"', "'", "|", ">", "!", "&")
_NULLS = {"", "~", "null", "Null", "NULL"}


def with_settings(given: Any, settings: Sequence[str]) -> Any:
    """Return what a job file says, changed.

    Parameters
    ----------
    given : object
        As YAML has it; not changed itself.
    settings : sequence of str
        ``path=value``: names with dots between them, then YAML. A stage of a list is named by its number, from 0, or by
        its output. What is not there is made; whether it may be there is for the job file's own checks to say.

    Raises
    ------
    JobFileError
        When a path leads nowhere, or a value is no YAML, or YAML would cut a text: at a ``#``, as a comment.

    Examples
    --------
    >>> job = {"endpoints": {"gpt-4.1": {}}, "stages": [{"query_model": {"output": "topic"}}]}
    >>> with_settings(job, ["endpoints.gpt-4.1.max_attempts=3", "stages.topic.generation.max_tokens=64"])
    {'endpoints': {'gpt-4.1': {'max_attempts': 3}}, \
'stages': [{'query_model': {'output': 'topic', 'generation': {'max_tokens': 64}}}]}
    """
    changed = _copy(given)
    for setting in settings:
        path, equals, text = setting.partition("=")
        place = Place(f"--set {path}")
        if not equals or not all(path.split(".")):
            msg = "give path=value, such as endpoints.gpt.max_concurrent_requests=64."
            raise place.error(msg)
        _set(changed, path.split("."), _value(text, place), place)
    return changed


def _value(text: str, place: Place) -> Any:
    value, stripped = parse_yaml(text, place), text.strip()
    whole = stripped in _NULLS if value is None else value == stripped or not isinstance(value, str)
    if not whole and not stripped.startswith(_MARKED):
        # the value is not repeated: it may be a key
        msg = "YAML would cut it at ` #`, or join its lines: put it in double quotes, with \\n for a line break."
        raise place.error(msg)
    return value


def _copy(value: Any) -> Any:
    """Return a copy in which nothing stands at two places: what YAML's anchors share is changed at one of them."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _set(inside: Any, names: list[str], value: Any, place: Place) -> None:
    while True:
        if not isinstance(inside, dict | list):
            msg = f"leads into {inside!r}, which has no parts."
            raise place.error(msg)
        holder, key, names = _step(inside, names, place)
        if not names:
            holder[key] = value
            if value is not None and key in _TWINS:
                holder.pop(_TWINS[key], None)
            return
        if isinstance(holder, dict) and holder.get(key) is None:
            holder[key] = {}
        inside = holder[key]


def _step(inside: dict[Any, Any] | list[Any], names: list[str], place: Place) -> tuple[Any, Any, list[str]]:
    """Return where the first name leads, its holder and key, and the names that are left. Names may hold dots."""
    for count in range(len(names), 0, -1):
        name = ".".join(names[:count])
        if isinstance(inside, dict):
            if name in inside:
                return inside, name, names[count:]
        elif name.isdecimal() and int(name) < len(inside):
            return inside, int(name), names[count:]
        else:
            for step in inside:
                for kind, arguments in step.items() if isinstance(step, dict) else ():
                    if kind in STAGES and isinstance(arguments, dict) and output_of(kind, arguments) == name:
                        return step, kind, names[count:]
    if isinstance(inside, dict):
        return inside, names[0], names[1:]
    msg = f"there is no {names[0]!r} in a list of {len(inside)}: give a number from 0, or the output of a stage."
    raise place.error(msg)
