"""Going on with a run by its directory alone: the job it keeps, and the rows that are to be asked anew."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.job.file.job_file import Job, read_job
from curator_llm.job.file.job_yaml import parse_yaml
from curator_llm.job.file.prompt_files import with_prompts
from curator_llm.job.file.query import Query
from curator_llm.job.places import Place
from curator_llm.job.retries import Retry
from curator_llm.job.run_directory import RunDirectory
from curator_llm.spec.nearest import nearest


@contextlib.contextmanager
def kept_job(run_dir: Path) -> Iterator[Job]:
    """Give the job that was last run in a run directory; its relative paths start where they started then.

    Parameters
    ----------
    run_dir : Path

    Raises
    ------
    ConfigurationError
        When nothing was run there, or the directory it was run from is not there.
    """
    run_dir = run_dir.absolute()
    manifest = manifest_of(run_dir)
    start = manifest.get("directory", str(Path.cwd()))
    if not Path(start).is_dir():
        msg = f"The job in {run_dir} was run from {start}, which is not there: its relative paths lead nowhere."
        raise ConfigurationError(msg)
    with contextlib.chdir(start):
        job = read_job(manifest["job"], Place(str(run_dir / "manifest.json")))
        yield dataclasses.replace(
            job,
            file=manifest.get("job_file", job.file),
            run_dir=run_dir,
            limit=manifest.get("limit"),
            overrides=tuple(manifest.get("overrides", [])),
        )


def manifest_of(run_dir: Path) -> dict[str, Any]:
    """Return the manifest of a run directory.

    Raises
    ------
    ConfigurationError
        When it is none.
    """
    manifest = RunDirectory(run_dir).manifest()
    if "job" not in manifest:
        msg = f"{run_dir} is no run directory: give the `run_dir` of a job that was run."
        raise ConfigurationError(msg)
    return manifest


def retry_of(job: Job, stage: str | None, statuses: Sequence[str], settings: Sequence[str]) -> Retry:
    """Return what is to be asked anew.

    Parameters
    ----------
    job : Job
    stage : str or None
        Output of a stage; may be left out where there is one stage.
    statuses : sequence of str
    settings : sequence of str
        Paths within the stage. What a prompt file holds now is kept in its place.

    Raises
    ------
    ConfigurationError
        When there is no such stage, or several and none is named.
    """
    outputs = [step.output for step in job.steps if isinstance(step, Query)]
    if stage is None and len(outputs) > 1:
        msg = f"The job has several stages: say which one with --stage {' or --stage '.join(outputs)}."
        raise ConfigurationError(msg)
    if stage is not None and stage not in outputs:
        msg = f"The job has no stage {stage!r}. {nearest(stage, outputs)}"
        raise ConfigurationError(msg)
    return Retry(stage or outputs[0], tuple(dict.fromkeys(statuses)), tuple(map(_with_text, settings)))


def _with_text(setting: str) -> str:
    """Return a setting with the text of a prompt file in place of its name."""
    name, _, value = setting.partition("=")
    if name not in {"prompt_file", "system_file"}:
        return setting
    place = Place(f"--set {name}")
    texts = with_prompts({name: parse_yaml(value, place)}, place)
    return "".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in texts.items()) or setting


def drop_retry(run_dir: Path, stage: str | None) -> str:
    """Take back the last retry of a run, or of one of its stages; return what to tell people. Asks nothing.

    Parameters
    ----------
    run_dir : Path
    stage : str or None

    Raises
    ------
    ConfigurationError
        When there is none, or another process is at work in the directory.
    """
    manifest_of(run_dir)
    directory = RunDirectory(run_dir)
    with directory.held():
        retries = directory.retries()
        last = next((retry for retry in reversed(retries) if stage in {None, retry.stage}), None)
        if last is None:
            msg = f"The run in {run_dir} has no retry" + (f" of {stage!r}." if stage else ".")
            raise ConfigurationError(msg)
        kept = [retry.as_json() for retry in retries if retry is not last]
        directory.write_manifest({**directory.manifest(), "retries": kept})
    return (
        f"Took back retry {last.draw} of {last.stage} ({last}). Its replies are kept; the next run gives the answers "
        "without it."
    )
