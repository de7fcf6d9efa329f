"""The command line: ``curator-llm run``, ``check`` and ``serve``; also ``dask curator-llm``.

Exit codes: 0 done, 1 crashed, 2 usage or job file, 3 stopped for good (key, model, quota, TLS, journal), 4 too many
failed rows, 75 interrupted and resumable.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from curator_llm import __version__
from curator_llm.errors import ConfigurationError, CuratorLLMError

_JOB = click.argument("job", type=click.Path(dir_okay=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="curator-llm")
def main() -> None:
    """Ask a language model once per row of a dataset, on one machine or on a Dask cluster.

    A job is a YAML file that names the input, the output, the endpoints and the stages. Replies are kept in its run
    directory: run it again after a crash, and only what is missing is asked.
    """


@main.command()
@_JOB
@click.option("--scheduler", metavar="ADDRESS", help="Run on the cluster of this scheduler, tcp://10.0.0.1:8786.")
@click.option("--dry-run", "dry", is_flag=True, help="Count requests and show the first ones; send nothing.")
def run(job: str, scheduler: str | None, dry: bool) -> None:
    """Run the job file JOB.

    Paths in it are relative to the current directory; on a cluster of several machines they must mean the same on all.
    The output appears when it is whole; until then it is written beside its path.

    Exit codes: 0 done; 1 crashed; 2 usage or job file; 3 stopped for good (key, model, quota, TLS, journal); 4 too many
    failed rows; 75 interrupted, run again to go on. The same word stands in report.json.
    """
    from curator_llm.job.check import check_job
    from curator_llm.job.dry_run import dry_run
    from curator_llm.job.job_file import ClusterSpec, load_job
    from curator_llm.job.run import run_job

    with _own_errors():
        loaded = load_job(job)
        if scheduler is not None:
            loaded = dataclasses.replace(loaded, cluster=ClusterSpec(scheduler=scheduler))
        if dry:
            dry_run(check_job(loaded), click.echo)
            return
        ending = run_job(loaded, say=_say)
    sys.exit(ending.exit_code)


@main.command()
@_JOB
def check(job: str) -> None:
    """Check the job file JOB: its keys, the data's columns, every stage. Sends nothing and needs no key."""
    from curator_llm.job.check import check_job
    from curator_llm.job.job_file import load_job
    from curator_llm.job.output_place import output_place
    from curator_llm.job.run_directory import RunDirectory

    with _own_errors():
        checked = check_job(load_job(job))
        output_place(checked.job.output.path, RunDirectory(checked.job.run_dir)).check()
    for stage in checked.stages:
        click.echo(f"{stage.spec.output}: {stage.spec.endpoint.model}, reads {', '.join(stage.spec.operation.inputs)}")
    columns = ", ".join(map(str, checked.meta.columns))
    click.echo(f"{job} is sound: {checked.source.rows:,} rows; columns written: {columns}")


@main.command()
@click.argument("model", default="smollm2")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port on 127.0.0.1; default a free one.")
@click.option("--slots", type=click.IntRange(1), default=4, show_default=True, help="Requests answered at once.")
def serve(model: str, port: int, slots: int) -> None:
    """Serve the embedded model MODEL (default smollm2) on this machine until Ctrl-C."""
    from curator_llm import local

    with _own_errors():
        local.serve(model, port=port, slots=slots)


def _say(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def _own_errors() -> Iterator[Any]:
    """Print what is wrong and what to do, without a traceback."""
    try:
        yield
    except CuratorLLMError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 3)
