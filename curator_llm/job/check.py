"""A job made ready: data looked at, stages built against its columns. Sends nothing, starts nothing, needs no key."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import urlsplit

import pandas as pd

from curator_llm.errors import ConfigurationError
from curator_llm.frame.stages import Stage
from curator_llm.job.attach_order import chosen
from curator_llm.job.data.inputs import Input, open_input
from curator_llm.job.data.limit import FirstRows
from curator_llm.job.data.outputs import output_schema
from curator_llm.job.data.storage import Location, check_store
from curator_llm.job.file.cluster import ClusterSpec, LocalWorkers, RunningCluster
from curator_llm.job.file.filters import Filter
from curator_llm.job.file.job_file import Job, LocalModel
from curator_llm.job.pipeline import Step, build_steps, check_steps
from curator_llm.job.places import Place
from curator_llm.job.retries import RetriedStage, Retry
from curator_llm.local import LocalServer
from curator_llm.spec.endpoint import Endpoint

#: Stands for the address of an embedded model that does not run yet.
_NOWHERE = "http://127.0.0.1:9/v1"


@dataclass(frozen=True)
class CheckedJob:
    """A job that can run.

    Parameters
    ----------
    job : Job
    source : Input
    steps : tuple of Stage or Filter
        With a stand-in for the address of embedded models.
    meta : pandas.DataFrame
        Empty, with the columns and dtypes of the output.
    """

    job: Job
    source: Input
    steps: tuple[Step, ...]
    meta: pd.DataFrame

    @property
    def stages(self) -> list[Stage]:
        """The steps that ask a model."""
        return [step for step in self.steps if isinstance(step, Stage)]


def check_job(job: Job, retries: Sequence[Retry] = ()) -> CheckedJob:
    """Check everything about a job that can be known before it runs.

    Parameters
    ----------
    job : Job
    retries : sequence of Retry
        What its run directory remembers.

    Raises
    ------
    JobFileError
        With file, place, value and what to do.
    """
    endpoints: dict[str, Endpoint] = {}
    for name, endpoint in job.endpoints.items():
        if isinstance(endpoint, LocalModel):
            place = Place(job.file, f"endpoints.{name}")
            if not _on_this_machine(chosen(job.cluster)):
                msg = "an embedded model serves this machine alone: name no other cluster, or name a server's base_url."
                raise place.error(msg)
            endpoints[name] = endpoint.endpoint(_NOWHERE, make_local_server(endpoint, place).slots)
        else:
            endpoints[name] = endpoint
    source = open_input(job.input)
    if job.limit is not None:
        source = FirstRows(source, job.limit)
    steps = build_steps(job, endpoints, retries)
    meta = check_steps(job, steps, source.meta)
    if job.output.format == "parquet":
        output_schema(meta, source)  # its errors are for now, not for the end of the run
    _check_apart(job)
    return CheckedJob(job, source, steps, meta)


def make_local_server(model: LocalModel, place: Place) -> LocalServer:
    """Return the server of an embedded model, not started.

    Raises
    ------
    JobFileError
        When there is no such model, or it is not installed.
    """
    try:
        return LocalServer(model.model, **model.options)
    except ConfigurationError as error:
        raise place.caused(error) from None


def depends_on(steps: tuple[Step, ...]) -> Mapping[str, str]:
    """Return the outputs of stages whose rows or requests depend on other stages' replies, each with one of these."""
    made: dict[str, str] = {}  # column: the stage it comes from
    found: dict[str, str] = {}
    dropped_by: str | None = None
    for step in steps:
        if isinstance(step, Filter):
            dropped_by = dropped_by or made.get(step.column)
            continue
        output, operation = step.spec.output, step.spec.operation
        inputs = step.inputs if isinstance(step, RetriedStage) else operation.inputs
        cause = dropped_by or next((made[name] for name in inputs if name in made), None)
        if cause is not None:
            found[output] = cause
        made |= {name: output for name, _ in operation.columns}
    return found


def _on_this_machine(cluster: ClusterSpec) -> bool:
    match cluster:
        case LocalWorkers():
            return True
        case RunningCluster(scheduler=str(address)):
            return urlsplit(address).hostname in {"127.0.0.1", "::1", "localhost"}
        case _:
            return False


def _check_apart(job: Job) -> None:
    """Refuse an output that a rerun would read, or that would replace what is read."""
    check_store(job.output.path, job.output.place)
    (read_on, read), (written_on, written) = _pure(job.input.path), _pure(job.output.path)
    if read_on != written_on:
        return
    around = written == read or written in read.parents
    inside = read in written.parents
    if glob.has_magic(str(read)):
        fixed = next(parent for parent in read.parents if not glob.has_magic(str(parent)))
        inside = fixed in written.parents and ("**" in str(read) or _matches(written, read))
    if around or inside:
        msg = f"{job.output.path} and the input {job.input.path} lie in each other: name a path beside it."
        raise job.output.place.error(msg)


def _pure(location: Location) -> tuple[object, PurePath]:
    """Return the kind of file system and the path on it."""
    return (Path, location) if isinstance(location, Path) else (type(location.fs), PurePosixPath(location.path))


def _matches(written: PurePath, pattern: PurePath) -> bool:
    return any(path.match(str(pattern)) for path in (written, written / f"part-00000{pattern.suffix}"))
