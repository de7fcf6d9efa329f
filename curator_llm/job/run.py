"""Running a job: everything around the tasks. Checks first, then holds the run directory, then starts what costs."""

from __future__ import annotations

import contextlib
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Client, as_completed

from curator_llm.cluster.progress import Progress
from curator_llm.errors import ConfigurationError, CuratorLLMError, RowsFailedError, RunError
from curator_llm.job.attach import attached
from curator_llm.job.bill import marks, read_bills, run_name
from curator_llm.job.check import CheckedJob, check_job, make_local_server
from curator_llm.job.filters import Filter
from curator_llm.job.job_file import Job, LocalModel
from curator_llm.job.output_place import LocalPlace
from curator_llm.job.outputs import join_lines, make_output, remove_strays
from curator_llm.job.pipeline import Step, answer_piece, build_steps
from curator_llm.job.places import Place
from curator_llm.job.progress import ProgressReporter
from curator_llm.job.report import Ending, Tally, make_report
from curator_llm.job.run_directory import RunDirectory
from curator_llm.spec.endpoint import Endpoint

Say = Callable[[str], object]


def run_job(job: Job, *, say: Say, processes: bool = True, progress_interval_s: float | None = None) -> Ending:
    """Run a job to its end.

    Parameters
    ----------
    job : Job
    say : callable
        Takes the lines for people.
    processes : bool, default True
        Whether a cluster on this machine has workers in processes of their own.
    progress_interval_s : float, optional
        Default 1 s on a terminal, 30 s elsewhere.

    Returns
    -------
    Ending
        Also of runs that crashed or were interrupted; the report says the same.

    Raises
    ------
    ConfigurationError
        Before anything has started, when the job cannot run.
    """
    checked = check_job(job)
    directory = RunDirectory(job.run_dir)
    place = LocalPlace(job.output.path, directory)
    with directory.held():
        place.check()
        run = directory.begin(job.text)
        place.clear()
        before = marks(directory.journal)
        tally = Tally(checked.stages)
        started = time.monotonic()
        execution = _Execution(checked, directory, place, run, tally, say, processes, progress_interval_s)
        ending = _ending_of(execution, say)
        seconds = time.monotonic() - started
        with contextlib.suppress(OSError):
            tally.bills = read_bills(directory.journal, before, run, tally.stages)
        for line in tally.lines() if tally.rows_in else ():
            say(line)
        if ending.exit_code:
            place.discard()
        report = make_report(checked, directory, run, tally, ending, seconds)
        directory.finish(report, success=not ending.exit_code)
        _say_ending(ending, tally, directory, place.output, say)
    return ending


class _Execution:
    """One execution of a job."""

    def __init__(
        self,
        checked: CheckedJob,
        directory: RunDirectory,
        place: LocalPlace,
        run: str,
        tally: Tally,
        say: Say,
        processes: bool,
        progress_interval_s: float | None,
    ) -> None:
        self._checked = checked
        self._directory = directory
        self._place = place
        self._run = run
        self._tally = tally
        self._say = say
        self._processes = processes
        self._interval_s = progress_interval_s

    def __call__(self) -> None:
        job = self._checked.job
        partial = self._place.partial
        partial.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            endpoints = {name: self._started(name, endpoint, stack) for name, endpoint in job.endpoints.items()}
            steps = self._of_this_run(build_steps(job, endpoints))
            self._announce(steps)
            client = stack.enter_context(attached(job.cluster, processes=self._processes))
            pieces = self._answer(client, steps, partial)
        remove_strays(partial, range(pieces))
        self._put_in_place(partial)

    def _started(self, name: str, endpoint: Endpoint | LocalModel, stack: contextlib.ExitStack) -> Endpoint:
        if isinstance(endpoint, Endpoint):
            return endpoint
        server = stack.enter_context(make_local_server(endpoint, Place(self._checked.job.file, f"endpoints.{name}")))
        return endpoint.endpoint(server.base_url, server.slots)

    def _of_this_run(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        journal = str(self._directory.journal)
        return tuple(
            step
            if isinstance(step, Filter)
            else step.with_run(run=run_name(self._run, step.spec.output), journal=journal)
            for step in steps
        )

    def _announce(self, steps: tuple[Step, ...]) -> None:
        rows = f"{self._checked.source.rows:,} rows"
        for step in steps:
            if isinstance(step, Filter):
                rows = f"up to {self._checked.source.rows:,} rows"
                continue
            endpoint = step.spec.endpoint
            where = f"{endpoint.model} at {endpoint.address}"
            self._say(f"{step.spec.output}: {rows}, {where}, replies kept in {self._directory.journal}")

    def _answer(self, client: Client, steps: tuple[Step, ...], partial: Path) -> int:
        """Answer all pieces; return how many there were."""
        job, source = self._checked.job, self._checked.source
        pieces = source.pieces()
        output = make_output(job.output, partial, self._checked.meta, source)
        if not pieces:
            output.write(self._checked.meta, 0)
            return 1
        total = source.rows * len(self._tally.stages)
        with ProgressReporter(Progress(client), total=total, interval_s=self._interval_s) as progress:
            common: dict[str, Any] = {"steps": steps, "output": output, "execution": uuid.uuid4().hex}
            futures = client.map(answer_piece, list(pieces), range(len(pieces)), pure=False, **common)
            started = time.monotonic()
            try:
                for future in as_completed(futures):
                    report = future.result()
                    if isinstance(report, CuratorLLMError):
                        raise report
                    self._tally.add(report)
                    progress.add(report)
                    future.release()
            except BaseException:
                client.cancel(futures)
                raise
            finally:
                self._tally.answering_s = time.monotonic() - started
        return len(pieces)

    def _put_in_place(self, partial: Path) -> None:
        output = self._checked.job.output
        if output.format == "jsonl" and output.path.suffix == ".jsonl":
            whole = partial / "whole"
            join_lines(partial, whole)
            self._place.put_in_place(whole)
            self._place.discard()
        else:
            self._place.put_in_place(partial)


def _ending_of(execution: Callable[[], None], say: Say) -> Ending:
    try:
        execution()
    except KeyboardInterrupt:
        return Ending("interrupted", 75, "Interrupted. What was answered is kept: run the same command to go on.")
    except RunError as error:
        return Ending("stopped", 3, str(error))
    except RowsFailedError as error:
        return Ending("rows_failed", 4, str(error))
    except ConfigurationError as error:
        return Ending("usage", 2, str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, the report is written and the replies are kept
        say(traceback.format_exc())
        return Ending("crashed", 1, f"Crashed with {type(error).__name__}; its traceback stands in the log.")
    return Ending("done", 0)


def _say_ending(ending: Ending, tally: Tally, directory: RunDirectory, output: Path, say: Say) -> None:
    if ending.message is None:
        say(f"{tally.rows_out:,} rows in {output}")
        return
    kept = sum(bill.requests for bill in tally.bills)
    say(ending.message)
    say(f"{kept:,} replies of this execution are kept in {directory.journal}; {output} is as it was before.")
