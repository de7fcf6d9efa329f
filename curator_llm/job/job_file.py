"""The job file: YAML in, frozen values out. Reads nothing else, imports nothing it names, needs no key.

::

    version: 1
    run_dir: runs/topics                       # manifest, journal/, report.json, _SUCCESS
    input:  {parquet: docs/*.parquet, columns: [id, text]}
    output: {parquet: tagged/}
    endpoints: {gpt: {model: gpt-4.1-mini, max_requests_per_minute: 10000}}      # or {local: smollm2}
    stages:
      - query_model: {endpoint: gpt, prompt: "Topic: {text}", output: topic, generation: {max_tokens: 8}}
      - filter: {column: topic__status, in: [ok]}
    cluster: {n_workers: 4}                    # or {scheduler: "tcp://10.0.0.1:8786"}
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from dask.utils import parse_bytes

from curator_llm.errors import ConfigurationError
from curator_llm.frame.stages import QueryModel, QueryRewardModel, Stage
from curator_llm.job.filters import Filter
from curator_llm.job.places import Place
from curator_llm.spec.endpoint import Endpoint
from curator_llm.spec.nearest import nearest

Format = Literal["parquet", "jsonl"]

_FORMATS = ("parquet", "jsonl")
_STAGES: dict[str, type[Stage]] = {"query_model": QueryModel, "query_reward_model": QueryRewardModel}
_LOCAL_OPTIONS = ("slots", "context_tokens", "threads")


@dataclass(frozen=True)
class Data:
    """Where rows come from or go to.

    Parameters
    ----------
    format : {"parquet", "jsonl"}
    path : Path
        Absolute; of an input also a directory or a glob.
    place : Place
        For errors.
    columns : tuple of str, optional
        Of an input: which are read.
    """

    format: Format
    path: Path
    place: Place
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LocalModel:
    """An embedded model, started around the run.

    Parameters
    ----------
    model : str
    options : mapping of str to int
        Of `curator_llm.local.LocalServer`.
    """

    model: str
    options: Mapping[str, int]

    def endpoint(self, base_url: str, slots: int) -> Endpoint:
        """Return the endpoint. Its name holds no port, so that a rerun on another one finds its replies."""
        return Endpoint(self.model, base_url=base_url, name=f"local:{self.model}", max_concurrent_requests=slots)


@dataclass(frozen=True)
class Query:
    """A stage that asks a model.

    Parameters
    ----------
    kind : str
        ``query_model`` or ``query_reward_model``.
    endpoint : str
        Name of an endpoint of the job.
    arguments : mapping
        Of the stage's class.
    place : Place
        For errors.
    """

    kind: str
    endpoint: str
    arguments: Mapping[str, Any]
    place: Place

    def build(self, endpoint: Endpoint) -> Stage:
        """Make the stage.

        Raises
        ------
        JobFileError
            When it cannot be made.
        """
        make = cast("Any", _STAGES[self.kind])
        try:
            return cast("Stage", make(endpoint, **self.arguments))
        except (ConfigurationError, TypeError, ValueError, AttributeError) as error:
            raise self.place.caused(error) from None


@dataclass(frozen=True)
class ClusterSpec:
    """The cluster a job runs on: one on this machine, or one that is there.

    Parameters
    ----------
    n_workers, threads_per_worker : int
    memory_limit : str
        Of each worker, for example ``4GiB``.
    scheduler : str, optional
        Address of a running scheduler, instead of the rest.
    """

    n_workers: int = 1
    threads_per_worker: int = 2
    memory_limit: str = "auto"
    scheduler: str | None = None


@dataclass(frozen=True)
class Job:
    """A job as its file says it.

    Parameters
    ----------
    file : str
        As it was given.
    text : str
        What it says.
    run_dir : Path
    input, output : Data
    endpoints : mapping of str to Endpoint or LocalModel
    steps : tuple of Query or Filter
        In their order.
    cluster : ClusterSpec
    """

    file: str
    text: str
    run_dir: Path
    input: Data
    output: Data
    endpoints: Mapping[str, Endpoint | LocalModel]
    steps: tuple[Query | Filter, ...]
    cluster: ClusterSpec


def load_job(file: str | Path) -> Job:
    """Read a job file.

    Parameters
    ----------
    file : str or Path
        Relative paths in it are relative to the current directory.

    Raises
    ------
    JobFileError
        With file, place, value and what to do.
    """
    place = Place(str(file))
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"cannot be read: {reason}."
        raise place.error(msg) from None
    given = place.mapping(
        _parse(text, place),
        ["version", "run_dir", "input", "output", "endpoints", "stages", "budget", "cluster"],
        required=["version", "run_dir", "input", "output", "endpoints", "stages"],
    )
    if given["version"] != 1:
        msg = f"is {given['version']!r}: this release reads version 1."
        raise (place / "version").error(msg)
    if "budget" in given:
        msg = "not enforced yet: leave it out, and limit the spend with max_tokens and the number of rows."
        raise (place / "budget").error(msg)
    endpoints = _endpoints(given["endpoints"], place / "endpoints")
    return Job(
        file=str(file),
        text=text,
        run_dir=_path(given["run_dir"], place / "run_dir", "runs/topics"),
        input=_data(given["input"], place / "input", ["columns"]),
        output=_data(given["output"], place / "output", []),
        endpoints=endpoints,
        steps=_steps(given["stages"], place / "stages", endpoints),
        cluster=_cluster(given.get("cluster") or {}, place / "cluster"),
    )


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


def _parse(text: str, place: Place) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        msg = f"no YAML{where}: {problem}. Texts with `: ` or braces go in quotes."
        raise place.error(msg) from None


def _path(value: Any, place: Place, example: str) -> Path:
    text = place.text(value, example)
    if "://" in text:
        msg = f"is {text!r}: for now jobs read and write local and shared file systems only; give a path."
        raise place.error(msg)
    return Path.cwd() / Path(text).expanduser()


def _data(value: Any, place: Place, others: list[str]) -> Data:
    given = place.mapping(value, [*_FORMATS, *others])
    kind = place.one_of(given, _FORMATS)
    path = _path(given[kind], place / kind, f"docs.{kind}")
    columns = given.get("columns")
    names = None if columns is None else (place / "columns").texts(columns, "[id, text]")
    return Data(cast("Format", kind), path, place / kind, names)


def _endpoints(value: Any, place: Place) -> dict[str, Endpoint | LocalModel]:
    if not isinstance(value, Mapping) or not value:
        msg = f"is {value!r}: give endpoints by name, such as {{gpt: {{model: gpt-4.1-mini}}}}."
        raise place.error(msg)
    return {str(name): _endpoint(given, place / name) for name, given in value.items()}


def _endpoint(value: Any, place: Place) -> Endpoint | LocalModel:
    if isinstance(value, Mapping) and "local" in value:
        given = place.mapping(value, ["local", *_LOCAL_OPTIONS])
        model = (place / "local").text(given.pop("local"), "smollm2")
        return LocalModel(model, {name: (place / name).count(number) for name, number in given.items()})
    known = [field.name for field in dataclasses.fields(Endpoint) if field.init]
    given = place.mapping(value, [*known, "local"], required=["model"])
    try:
        return Endpoint(**given)
    except (ConfigurationError, TypeError, ValueError, AttributeError) as error:
        raise place.caused(error) from None


def _steps(value: Any, place: Place, endpoints: Mapping[str, object]) -> tuple[Query | Filter, ...]:
    if not isinstance(value, list) or not value:
        msg = f"is {value!r}: give a list of `query_model`, `query_reward_model` and `filter`."
        raise place.error(msg)
    steps = tuple(_step(given, place[index], endpoints) for index, given in enumerate(value))
    outputs: dict[str, Place] = {}
    for step in steps:
        if isinstance(step, Query):
            output = str(step.arguments.get("output") or _parameters(step.kind)["output"].default)
            if output in outputs:
                msg = f"`output` is {output!r}, as in {outputs[output].name}: give another name."
                raise step.place.error(msg)
            outputs[output] = step.place
    if not outputs:
        msg = "no stage asks a model: add a `query_model` or a `query_reward_model`."
        raise place.error(msg)
    return steps


def _step(value: Any, place: Place, endpoints: Mapping[str, object]) -> Query | Filter:
    given = place.mapping(value, [*_STAGES, "filter"])
    kind = place.one_of(given, [*_STAGES, "filter"])
    place = place / kind
    return Filter.read(given[kind], place) if kind == "filter" else _query(kind, given[kind], place, endpoints)


def _query(kind: str, value: Any, place: Place, endpoints: Mapping[str, object]) -> Query:
    given = place.mapping(value, list(_parameters(kind)), required=["endpoint"])
    name = given.pop("endpoint")
    if name not in endpoints:
        msg = f"there is no endpoint {name!r} in this job. {nearest(str(name), endpoints)}"
        raise (place / "endpoint").error(msg)
    if given.pop("journal", None) is not None:
        msg = "leave it out: a job keeps its replies in <run_dir>/journal."
        raise (place / "journal").error(msg)
    if any(isinstance(choice, bool) for choice in given.get("choices") or ()):
        msg = "YAML reads yes, no, on and off as true and false: put them in quotes."
        raise (place / "choices").error(msg)
    return Query(kind, str(name), given, place)


def _parameters(kind: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a stage's class."""
    parameters = dict(inspect.signature(_STAGES[kind].__init__).parameters)
    del parameters["self"]
    return parameters


def _cluster(value: Any, place: Place) -> ClusterSpec:
    given = place.mapping(value, ["n_workers", "threads_per_worker", "memory_limit", "scheduler", "class"])
    if "class" in given:
        msg = "not supported yet: start the cluster yourself and give `scheduler: tcp://...`."
        raise (place / "class").error(msg)
    if "scheduler" in given:
        if len(given) > 1:
            msg = "`scheduler` names a cluster that is there: leave the other keys out."
            raise place.error(msg)
        return ClusterSpec(scheduler=(place / "scheduler").text(given["scheduler"], "tcp://10.0.0.1:8786"))
    limit = given.pop("memory_limit", "auto")
    numbers: dict[str, Any] = {name: (place / name).count(number) for name, number in given.items()}
    try:
        if limit != "auto":
            parse_bytes(limit)
    except (ValueError, TypeError, AttributeError):
        msg = f"is {limit!r}: give a size such as '4GiB', or 'auto'."
        raise (place / "memory_limit").error(msg) from None
    return ClusterSpec(memory_limit=str(limit), **numbers)
