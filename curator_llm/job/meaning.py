"""What a job means: what is asked, of whom, about which rows, and where the answers go. A run directory keeps to it.

Limits, timeouts, prices, the cluster, credentials, what happens to failed rows, and details that stand beside an answer
are not part of it: with others the answers are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.job.file.job_file import Job, LocalModel
from curator_llm.job.file.job_yaml import parse_yaml
from curator_llm.job.file.query import Query
from curator_llm.job.file.stage_kinds import STAGES, parameters
from curator_llm.job.places import Place
from curator_llm.job.retries import Retry
from curator_llm.job.run_directory import RunDirectory
from curator_llm.spec.endpoint import Endpoint

#: Fields of a job by their paths in the file, ``stages.0.query_model.prompt``.
Meaning = dict[str, Any]

_OF_DATA = {"storage_options": None, "delimiter": ","}
_BESIDE_ANSWERS = ("details", "on_error", "fail_on_error", "budget")
#: Of a long text so much is shown, from shortly before where it differs.
_SHOWN = 160
_BEFORE = 40


def meaning(job: Job, retries: Sequence[Retry] = ()) -> Meaning:
    """Return the fields of a job that decide what its answers are, and where they go.

    Parameters
    ----------
    job : Job
    retries : sequence of Retry
        Of its run directory; they may ask other endpoints.
    """
    said = parse_yaml(job.text, Place(job.file))
    used = {step.endpoint for step in job.steps if isinstance(step, Query)}
    used |= {setting.partition("=")[2].strip() for retry in retries for setting in retry.settings}
    whole = {
        "input": _without(said["input"], _OF_DATA),
        "output": _without(said["output"], _OF_DATA),
        "endpoints": {name: _who(endpoint) for name, endpoint in job.endpoints.items() if name in used},
        "stages": [{kind: _stage(kind, given) for kind, given in step.items()} for step in said["stages"]],
    }
    # as it will be read from a manifest
    return dict(json.loads(json.dumps(dict(_fields("", whole)), default=str)))


def differences(before: Meaning, now: Meaning) -> list[str]:
    """Return a line for each field that is another one.

    Examples
    --------
    >>> differences({"input.csv": "docs.csv", "input.delimiter": ";"}, {"input.csv": "texts.csv"})
    ["input.csv: 'docs.csv' -> 'texts.csv'", "input.delimiter: ';' -> nothing"]
    """
    # Others came or went, and no stage asks them: one that did names another endpoint now.
    shared = _endpoints(before) & _endpoints(now)
    return [
        f"{name}: {' -> '.join(_shown(before.get(name), now.get(name)))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name) and (not name.startswith("endpoints.") or name.startswith(tuple(shared)))
    ]


def check_meaning(directory: RunDirectory, job: Job) -> None:
    """Check that a job means what the job means that was run in a directory. Changes nothing, reads two files.

    Raises
    ------
    ConfigurationError
        With each field that differs. Not while nothing was paid for there: whose first run stopped at a wrong model
        name mends it and goes on.
    """
    before = directory.manifest().get("meaning")
    if not isinstance(before, dict):  # of an earlier version
        return
    lines = differences(before, meaning(job, directory.retries()))
    if lines and directory.has_replies():
        msg = "\n  ".join([f"{job.file} is not the job that was run in {directory.path}:", *lines])
        msg += (
            "\nNothing was touched. Name another run_dir; or run it with --changed: the directory is the new job's "
            "then, and replies to equal requests are used again."
        )
        raise ConfigurationError(msg)


def _without(given: Mapping[str, Any], left_out: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section without what says nothing: defaults, and names whose default is None."""
    return {name: value for name, value in given.items() if not (name in left_out and left_out[name] in (None, value))}


def _stage(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if kind not in STAGES:
        return dict(given)
    defaults = {name: parameter.default for name, parameter in parameters(kind).items()}
    return {name: value for name, value in given.items() if name not in _BESIDE_ANSWERS and value != defaults.get(name)}


def _who(endpoint: Endpoint | LocalModel) -> dict[str, Any]:
    """Return who answers, by what the keys of its requests are made of."""
    if isinstance(endpoint, LocalModel):
        return {"local": endpoint.model}
    address = next(iter(endpoint.base_urls), None)
    return {
        "model": endpoint.model,
        **({"name": endpoint.name} if endpoint.name else {"client": endpoint.client, "base_url": address}),
        "revision": endpoint.revision,
        "headers": endpoint.headers,
        "extra_body": endpoint.extra_body,
    }


def _fields(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Give the parts of a value that say something, by their paths."""
    if isinstance(value, Mapping):
        parts: Any = value.items()
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        parts = enumerate(value)
    else:
        if value is not None:
            yield name, value
        return
    for key, part in parts:
        yield from _fields(f"{name}.{key}" if name else str(key), part)


def _endpoints(fields: Meaning) -> set[str]:
    """Return what the fields of each endpoint begin with."""
    named = (name.rpartition(".") for name in fields if name.startswith("endpoints."))
    return {start + dot for start, dot, field in named if field in {"model", "local"}}


def _shown(before: Any, now: Any) -> tuple[str, str]:
    """Return two values for people; of long texts the part that differs."""
    start = 0
    if isinstance(before, str) and isinstance(now, str):
        alike = (one == other for one, other in zip(before, now, strict=False))
        start = max(0, next((at for at, same in enumerate(alike) if not same), min(len(before), len(now))) - _BEFORE)
    return _short(before, start), _short(now, start)


def _short(value: Any, start: int) -> str:
    if value is None:
        return "nothing"
    if not isinstance(value, str):
        return repr(value)[:_SHOWN]
    start = start if len(value) > _SHOWN else 0
    end = start + _SHOWN
    return f"{'...' if start else ''}{value[start:end]!r}{'...' if end < len(value) else ''}"
