"""The job file: YAML in, frozen values out. Reads nothing else, imports nothing it names, needs no key.

::

    version: 1
    run_dir: runs/topics                       # manifest, journal/, report.json, _SUCCESS
    input:  {parquet: docs/*.parquet, columns: [id, text]}
    output: {parquet: tagged/}
    endpoints: {gpt: {model: gpt-4.1-mini, max_requests_per_minute: 10000}}      # or {local: smollm2}
    stages:
      - query_model: {endpoint: gpt, prompt: "Topic: {text}", output: topic, generation: {max_tokens: 8}}
                                               # or prompt_file: prompts/topic.txt
      - filter: {column: topic__status, in: [ok]}
    budget: {max_cost_usd: 900}                # of the run, over all its executions
    cluster: {n_workers: 4}                    # or {scheduler: "tcp://10.0.0.1:8786"}, or {class: ..., kwargs: ...}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.job.data.input_output import Data, read_input, read_output
from curator_llm.job.data.storage import read_location
from curator_llm.job.file.cluster import ClusterSpec, read_cluster
from curator_llm.job.file.filters import Filter
from curator_llm.job.file.job_yaml import parse_yaml, yaml_text
from curator_llm.job.file.overrides import with_settings
from curator_llm.job.file.prompt_files import read_text, with_prompts
from curator_llm.job.file.query import Query
from curator_llm.job.file.stage_kinds import STAGES
from curator_llm.job.places import Place
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint

_LOCAL_OPTIONS = ("slots", "context_tokens", "threads")


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
class Job:
    """A job as its file says it.

    Parameters
    ----------
    file : str
        As it was given.
    text : str
        What it says, with what was set from outside and the texts of prompt files.
    run_dir : Path
    input, output : Data
    endpoints : mapping of str to Endpoint or LocalModel
    steps : tuple of Query or Filter
        In their order.
    cluster : ClusterSpec, optional
        None where the file says nothing: see `curator_llm.job.attach_order`.
    overrides : tuple of str
        What was set from outside.
    limit : int, optional
        How many rows are read, from the first on.
    budget : Budget, optional
        Of the run, over all its executions.
    """

    file: str
    text: str
    run_dir: Path
    input: Data
    output: Data
    endpoints: Mapping[str, Endpoint | LocalModel]
    steps: tuple[Query | Filter, ...]
    cluster: ClusterSpec | None
    overrides: tuple[str, ...] = ()
    limit: int | None = None
    budget: Budget | None = None


def load_job(file: str | Path, settings: Sequence[str] = ()) -> Job:
    """Read a job file.

    Parameters
    ----------
    file : str or Path
        Relative paths in it are relative to the current directory.
    settings : sequence of str
        Values to change, ``endpoints.gpt.max_attempts=3``; see `curator_llm.job.file.overrides`.

    Raises
    ------
    JobFileError
        With file, place, value and what to do.
    """
    place = Place(str(file))
    return read_job(read_text(Path(file), place), place, settings)


def read_job(text: str, place: Place, settings: Sequence[str] = ()) -> Job:
    """Read the text of a job file; `place` says where it stands. See `load_job`."""
    said = parse_yaml(text, place)
    known = ["version", "run_dir", "input", "output", "endpoints", "stages", "budget", "cluster"]
    whole = _with_prompts(with_settings(said, settings), place) if isinstance(said, dict) else said
    given = place.mapping(whole, known, required=[name for name in known if name not in {"budget", "cluster"}])
    if given["version"] != 1:
        msg = f"is {given['version']!r}: this release reads version 1."
        raise (place / "version").error(msg)
    budget = _budget(given.get("budget"), place / "budget")
    endpoints = _endpoints(given["endpoints"], place / "endpoints")
    return Job(
        file=place.file,
        text=text if whole == said else yaml_text(whole),
        run_dir=_path(given["run_dir"], place / "run_dir", "runs/topics"),
        input=read_input(given["input"], place / "input"),
        output=read_output(given["output"], place / "output"),
        endpoints=endpoints,
        steps=_steps(given["stages"], place / "stages", endpoints, budget),
        cluster=read_cluster(given["cluster"], place / "cluster") if given.get("cluster") else None,
        overrides=tuple(settings),
        budget=budget,
    )


def _with_prompts(given: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return what a job file says, with the texts of its prompt files."""
    if not isinstance(given.get("stages"), list):
        return given
    stages = [
        {kind: with_prompts(said, (place / "stages")[index] / kind) for kind, said in step.items()}
        if isinstance(step, dict)
        else step
        for index, step in enumerate(given["stages"])
    ]
    return {**given, "stages": stages}


def _path(value: Any, place: Place, example: str) -> Path:
    text = place.text(value, example)
    location = read_location(text, None, place)
    if not isinstance(location, Path):
        msg = f"is {text!r}: a journal is appended to, on local and shared file systems only; give a path."
        raise place.error(msg)
    return location


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


def _budget(value: Any, place: Place) -> Budget | None:
    if value is None:
        return None
    given = place.mapping(value, ["max_cost_usd", "max_total_tokens", "max_requests"])
    try:
        return Budget(**given)
    except ConfigurationError as error:
        raise place.caused(error) from None


def _steps(
    value: Any, place: Place, endpoints: Mapping[str, object], budget: Budget | None
) -> tuple[Query | Filter, ...]:
    if not isinstance(value, list) or not value:
        msg = f"is {value!r}: give a list of `query_model`, `query_reward_model` and `filter`."
        raise place.error(msg)
    steps = tuple(_step(given, place[index], endpoints, budget) for index, given in enumerate(value))
    outputs: dict[str, Place] = {}
    for step in steps:
        if isinstance(step, Query):
            if step.output in outputs:
                msg = f"`output` is {step.output!r}, as in {outputs[step.output].name}: give another name."
                raise step.place.error(msg)
            outputs[step.output] = step.place
    if not outputs:
        msg = "no stage asks a model: add a `query_model` or a `query_reward_model`."
        raise place.error(msg)
    return steps


def _step(value: Any, place: Place, endpoints: Mapping[str, object], budget: Budget | None) -> Query | Filter:
    given = place.mapping(value, [*STAGES, "filter"])
    kind = place.one_of(given, [*STAGES, "filter"])
    place = place / kind
    if kind == "filter":
        return Filter.read(given[kind], place)
    return dataclasses.replace(Query.read(kind, given[kind], place, endpoints), budget=budget)
