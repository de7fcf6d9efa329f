"""The command line, ``curator-llm``: jobs, journals and the embedded model.

Also as ``dask curator-llm``. Exit codes: 0 done, 1 crashed, 2 usage or job file, 3 stopped for good (key, model, quota,
TLS, journal), 4 too many failed rows, 75 interrupted and resumable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curator_llm import __version__
from curator_llm.cli_journal import journal
from curator_llm.errors import ConfigurationError, CuratorLLMError
from curator_llm.job.interrupts import SIGNALS
from curator_llm.terminal import say, word

if TYPE_CHECKING:
    from curator_llm.job.file.cluster import ClusterSpec
    from curator_llm.job.file.job_file import Job
    from curator_llm.job.retries import Retry

_JOB = click.argument("job", type=click.Path(dir_okay=False))
_RUN_DIR = click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
_SET = click.option(
    "--set",
    "settings",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change a value of the job file, such as endpoints.gpt.max_concurrent_requests=64 or "
    "stages.topic.generation.max_tokens=8; VALUE is YAML. May be repeated.",
)
_SCHEDULER = click.option(
    "--scheduler", metavar="ADDRESS", help="Run on the cluster of this scheduler, tcp://10.0.0.1:8786."
)
_SCHEDULER_FILE = click.option(
    "--scheduler-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run on the cluster whose scheduler writes its address to this file, which is waited for.",
)
_WAIT = click.option("--wait", is_flag=True, help="Wait for another process that works in the run directory.")
_DRY_RUN = click.option("--dry-run", "dry", is_flag=True, help="Count requests and show the first ones; send nothing.")


class _Commands(click.Group):
    """Prints what is wrong and what to do, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("Interrupted before anything was done.", err=True)
            sys.exit(75)
        except CuratorLLMError as error:
            say(f"Error: {error}", err=True)
            sys.exit(2 if isinstance(error, ConfigurationError) else 3)


@click.group("curator-llm", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="curator-llm")
def main() -> None:
    """Ask a language model once per row of a dataset, on one machine or on a Dask cluster.

    A job is a YAML file that names the input, the output, the endpoints and the stages. Replies are kept in its run
    directory: run it again after a crash, and only what is missing is asked.
    """


main.add_command(journal)


def console() -> None:
    """Run the command line as a process: SIGTERM and SIGHUP are Ctrl-C from its first moment on.

    Once it has ended, none of them is heard: what is in place is not said to be interrupted.
    """
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, signal.default_int_handler)
    try:
        main(prog_name="curator-llm")
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_IGN)


@main.command()
@_JOB
@_SET
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Read the first N rows of the input alone.")
@click.option("--changed", is_flag=True, help="Take a job that is not the one that was run in its run directory.")
@_SCHEDULER
@_SCHEDULER_FILE
@_WAIT
@_DRY_RUN
def run(
    job: str,
    settings: tuple[str, ...],
    limit: int | None,
    changed: bool,
    scheduler: str | None,
    scheduler_file: Path | None,
    wait: bool,
    dry: bool,
) -> None:
    """Run the job file JOB.

    Paths in it are relative to the current directory; on a cluster of several machines they must mean the same on all.
    The output appears when it is whole; until then it is written beside its path. The output of a run with --limit is
    replaced by that of the next one.

    Ctrl-C, SIGTERM and `curator-llm stop` keep what was answered: the same command goes on. One process works in a run
    directory; a second one is refused, or waits with --wait. A process that is gone is followed within a minute.

    A run directory keeps to its job: one with another input, output, stage or model is refused, with each field that
    differs. --changed takes it, and uses the replies to equal requests again.

    Exit codes: 0 done; 1 crashed; 2 usage or job file; 3 stopped for good (key, model, quota, TLS, journal); 4 too many
    failed rows; 5 budget reached; 75 interrupted: run again to go on. The same word stands in report.json.
    """
    from curator_llm.job.attach_order import from_options
    from curator_llm.job.file.job_file import load_job

    loaded = dataclasses.replace(load_job(job, settings), limit=limit)
    code = _run(loaded, cluster=from_options(scheduler, scheduler_file), wait=wait, dry=dry, changed=changed)
    sys.exit(code)


@main.command()
@_RUN_DIR
@click.option(
    "--status",
    "statuses",
    metavar="STATUS",
    multiple=True,
    help="Ask the rows anew that ended so: truncated, rejected, invalid, ... May be repeated.",
)
@click.option("--stage", metavar="OUTPUT", help="The stage, by its output; needed where there are several.")
@click.option(
    "--set",
    "settings",
    metavar="PATH=VALUE",
    multiple=True,
    help="What is different, by paths within the stage, such as generation.max_tokens=2000, prompt=... or "
    "endpoint=other. May be repeated.",
)
@click.option("--drop", is_flag=True, help="Take the last retry back, of --stage if that is given; asks nothing.")
@_SCHEDULER
@_SCHEDULER_FILE
@_WAIT
@_DRY_RUN
def retry(
    run_dir: Path,
    statuses: tuple[str, ...],
    stage: str | None,
    settings: tuple[str, ...],
    drop: bool,
    scheduler: str | None,
    scheduler_file: Path | None,
    wait: bool,
    dry: bool,
) -> None:
    """Ask rows of the run in RUN_DIR anew: those whose stage ended with a STATUS. All others keep their answers.

    The job is the one that was last run there. The run remembers its retries: every later `run` gives the merged
    answers, and pays nothing for them. Until a retry is done, another one of its stage takes its place. Ends like
    `run`.
    """
    from curator_llm.job.again import drop_retry, kept_job, retry_of
    from curator_llm.job.attach_order import from_options
    from curator_llm.job.retries import check_statuses

    if drop == bool(statuses):
        msg = "Give --status for the rows to ask anew, or --drop to take the last retry back."
        raise click.UsageError(msg)
    if drop:
        say(drop_retry(run_dir, stage))
        return
    check_statuses(statuses)
    with kept_job(run_dir) as job:
        code = _run(
            job,
            retry_of(job, stage, statuses, settings),
            cluster=from_options(scheduler, scheduler_file),
            wait=wait,
            dry=dry,
        )
    sys.exit(code)


@main.command()
@_JOB
@_SET
def check(job: str, settings: tuple[str, ...]) -> None:
    """Check the job file JOB: its keys, the data's columns, every stage. Sends nothing and needs no key."""
    from curator_llm.job.check import check_job
    from curator_llm.job.data.output_place import output_place
    from curator_llm.job.file.job_file import load_job
    from curator_llm.job.run_directory import RunDirectory

    loaded = load_job(job, settings)
    directory = RunDirectory(loaded.run_dir)
    checked = check_job(loaded, directory.retries())
    output_place(loaded.output.path, directory).check()
    for stage in checked.stages:
        reads = ", ".join(map(word, stage.spec.operation.inputs))
        say(f"{stage.spec.output}: {stage.spec.endpoint.model}, reads {reads}")
    columns = ", ".join(map(word, checked.meta.columns))
    say(f"{job} is sound: {checked.source.rows:,} rows; columns written: {columns}")


@main.command()
@_RUN_DIR
def stop(run_dir: Path) -> None:
    """Stop the run in RUN_DIR, from this or another machine: like Ctrl-C, within a few seconds.

    Exit codes: 0, also when nobody works there; 2 when it is no run directory.
    """
    from curator_llm.job.stop import stop_run

    say(stop_run(run_dir))


@main.command()
@click.argument("run_dir", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--scheduler", metavar="ADDRESS", help="Of the cluster of this scheduler, tcp://10.0.0.1:8786.")
@click.option(
    "--scheduler-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Of the cluster whose scheduler has written its address to this file.",
)
def status(run_dir: Path | None, scheduler: str | None, scheduler_file: Path | None) -> None:
    """Say how far the run in RUN_DIR is, from this or another machine, or how it ended.

    With --scheduler or --scheduler-file: what the workers of that cluster have done so far, in all its runs. Rows by
    status, speed, requests in flight, cost, time left, what holds it back and what to try. Sends no request to a model.
    """
    from curator_llm.job.status import address_in, cluster_status, run_status

    if sum(given is not None for given in (run_dir, scheduler, scheduler_file)) != 1:
        msg = "Give RUN_DIR, --scheduler or --scheduler-file."
        raise click.UsageError(msg)
    if run_dir is not None:
        say(run_status(run_dir))
    else:
        say(cluster_status(scheduler or address_in(scheduler_file or Path())))


@main.command()
@_RUN_DIR
@click.option("--json", "as_json", is_flag=True, help="Print report.json as it is.")
def report(run_dir: Path, as_json: bool) -> None:
    """Say how the run in RUN_DIR ended: rows, tokens, cost, where the output is, and how to go on."""
    from curator_llm.job.report_text import read_report, report_text

    if as_json:
        say(json.dumps(read_report(run_dir), indent=2, ensure_ascii=False))
    else:
        say(report_text(run_dir))


@main.command()
@_RUN_DIR
def verify(run_dir: Path) -> None:
    """Check what the run in RUN_DIR left: journal, output and report against each other. Sends nothing.

    The output is made once more from the input and the journal, and compared row by row. Exit codes: 0 sound, 1 not.
    """
    from curator_llm.job.verify import verify_run

    found = verify_run(run_dir)
    for line in found.lines:
        say(line)
    for problem in found.problems:
        say(problem, err=True)
    say(f"{run_dir} is {'not sound' if found.problems else 'sound'}.")
    sys.exit(bool(found.problems))


@main.command()
@click.argument("model", default="smollm2")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port on 127.0.0.1; default a free one.")
@click.option("--slots", type=click.IntRange(1), default=4, show_default=True, help="Requests answered at once.")
def serve(model: str, port: int, slots: int) -> None:
    """Serve the embedded model MODEL (default smollm2) on this machine until Ctrl-C."""
    from curator_llm import local

    local.serve(model, port=port, slots=slots)


def _run(
    job: Job,
    retry: Retry | None = None,
    *,
    cluster: ClusterSpec | None,
    wait: bool,
    dry: bool,
    changed: bool = False,
) -> int:
    from curator_llm.job.attach_order import cluster_or_step
    from curator_llm.job.check import check_job
    from curator_llm.job.dry_run import dry_run
    from curator_llm.job.run import retries_of, run_job
    from curator_llm.job.slurm_step import SlurmStep

    if cluster is not None:  # for this execution alone: the job that is kept has its own cluster
        job = dataclasses.replace(job, cluster=cluster)
    step = cluster_or_step(job.cluster)
    with contextlib.ExitStack() as stack:
        if isinstance(step, SlurmStep):
            if not step.is_driver:
                if not dry:
                    step.serve()
                return 0
            if not dry:
                job = dataclasses.replace(job, cluster=stack.enter_context(step.cluster()))
        if not dry:
            return run_job(job, say=_say, wait=wait, retry=retry, changed=changed).exit_code
        dry_run(check_job(job, retries_of(job, retry)), say)
        return 0


def _say(line: str) -> None:
    say(line, err=True)
