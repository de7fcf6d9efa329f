"""Running a job: everything around the tasks. Checks first, then holds the run directory, then starts what costs."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from functools import partial

from curator_llm.errors import ConfigurationError, RowsFailedError, RunError, RunTakenOverError
from curator_llm.job.bill import read_bills
from curator_llm.job.check import CheckedJob, check_job
from curator_llm.job.data.output_place import OutputPlace, output_place
from curator_llm.job.driver import Driver
from curator_llm.job.file.job_file import Job
from curator_llm.job.interrupts import Interrupts
from curator_llm.job.lease import Lease
from curator_llm.job.meaning import check_meaning, meaning
from curator_llm.job.report import Ending, Tally, make_report
from curator_llm.job.retries import Retry, with_retry
from curator_llm.job.run_directory import RunDirectory
from curator_llm.journal.segment import DISK_ERRORS, advice

Say = Callable[[str], object]


def run_job(
    job: Job,
    *,
    say: Say,
    processes: bool = True,
    progress_interval_s: float | None = None,
    wait: bool = False,
    retry: Retry | None = None,
    changed: bool = False,
) -> Ending:
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
    wait : bool, default False
        Whether to wait for another process that works in the run directory, instead of refusing.
    retry : Retry, optional
        What to ask anew beside what the run directory remembers; its draw is found here.
    changed : bool, default False
        Whether to take a job that means something else than the one that was run in the run directory.

    Returns
    -------
    Ending
        Also of runs that crashed or were interrupted; the report says the same. In the main thread, SIGINT, SIGTERM and
        a request of `curator-llm stop` interrupt it.

    Raises
    ------
    ConfigurationError
        Before anything has started, when the job cannot run, or is not the one that was run in its run directory.
    """
    directory = RunDirectory(job.run_dir)
    if not changed:
        check_meaning(directory, job)
    retries = retries_of(job, retry)
    with Interrupts() as interrupts:
        try:
            with interrupts.armed():
                checked = check_job(job, retries)
                lease = directory.held(wait=wait, say=say)
        except KeyboardInterrupt:
            ending = Ending("interrupted", 75, f"{interrupts.why or 'Interrupted'} before anything was done.")
            say(str(ending.message))
            return ending
        lease.on_stop = partial(interrupts.request, "Stopped by `curator-llm stop`")
        lease.on_lost = interrupts.request
        with lease:
            if not changed:  # another one may have run while this one waited
                check_meaning(directory, job)
            now = retries_of(job, retry)
            if now != retries:  # recorded while this one waited
                checked = check_job(job, now)
            driver = Driver(say, processes, progress_interval_s, interrupts)
            return _run(checked, directory, lease, now, interrupts, driver)


def retries_of(job: Job, retry: Retry | None = None) -> tuple[Retry, ...]:
    """Return the retries its run directory remembers, and a new one."""
    known = RunDirectory(job.run_dir).retries()
    return known if retry is None else with_retry(known, retry)


def _run(
    checked: CheckedJob,
    directory: RunDirectory,
    lease: Lease,
    retries: tuple[Retry, ...],
    interrupts: Interrupts,
    driver: Driver,
) -> Ending:
    job, say = checked.job, driver.say
    place = output_place(job.output.path, directory, lease.number)
    place.check()
    about = {"job_file": job.file, "overrides": list(job.overrides), "limit": job.limit, "lease": lease.number}
    try:
        run = directory.begin(job.text, retries=retries, meaning=meaning(job, retries), **about)
    except RunError as error:
        say(str(error))
        return Ending("stopped", 3, str(error))
    tally = Tally(checked.stages)
    started = time.monotonic()

    def execute() -> None:
        place.begin()
        whole = driver.answer(checked, retries, tally, place.partial, run=run, journal=directory.journal)
        interrupts.disarm()  # between two renames there is no output
        lease.check()
        place.put_in_place(whole)
        place.discard()

    ending = _ending_of(execute, interrupts, say)
    if not ending.exit_code and tally.not_attempted:
        ending = _budget_reached(job, tally)
    seconds = time.monotonic() - started
    billed = directory.billed()
    with contextlib.suppress(OSError):
        tally.bills, billed = read_bills(directory.journal, billed, run, tally.stages)
    for line in tally.lines() if tally.rows_in else ():
        say(line)
    if not ending.has_output:
        place.discard()
    if lease.lost is not None:  # the report is another one's now
        say(lease.lost)
        return Ending("interrupted", 75, lease.lost)
    report = make_report(
        checked, directory, tally, ending, run=run, lease=lease.number, retries=retries, seconds=seconds
    )
    try:
        directory.finish(report, billed, success=not ending.exit_code)
    except RunError as error:
        say(str(error))
        return ending if ending.exit_code else Ending("stopped", 3, f"{error} The output is in its place.")
    _say_ending(ending, tally, directory, place, say)
    return ending


def _ending_of(execute: Callable[[], None], interrupts: Interrupts, say: Say) -> Ending:
    try:
        with interrupts.armed():
            execute()
    except KeyboardInterrupt:
        why = interrupts.why or "Interrupted"
        return Ending("interrupted", 75, f"{why}. What was answered is kept: run the same command to go on.")
    except RunTakenOverError as error:
        return Ending("interrupted", 75, str(error))
    except RunError as error:
        return Ending("stopped", 3, str(error))
    except RowsFailedError as error:
        return Ending("rows_failed", 4, str(error))
    except ConfigurationError as error:
        return Ending("usage", 2, str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, the report is written and the replies are kept
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return Ending("stopped", 3, f"Cannot write {error.filename}: {error.strerror}. {advice(error)}")
        say(traceback.format_exc())
        return Ending("crashed", 1, f"Crashed with {type(error).__name__}; its traceback stands in the log.")
    return Ending("done", 0)


def _budget_reached(job: Job, tally: Tally) -> Ending:
    why = (
        f"The budget of {job.budget} is reached: {tally.not_attempted:,} rows were not attempted. They stand in the "
        "output with that status; raise `budget` in the job and run the same command to ask for them."
    )
    return Ending("budget", 5, why)


def _say_ending(ending: Ending, tally: Tally, directory: RunDirectory, place: OutputPlace, say: Say) -> None:
    if ending.has_output:
        if ending.message is not None:
            say(ending.message)
        say(f"{tally.rows_out:,} rows in {place.output}")
        return
    kept = sum(bill.requests for bill in tally.bills)
    say(str(ending.message))
    state = "is in its place in part" if place.moving else "is as it was before"
    say(f"{kept:,} new replies are kept in {directory.journal}; {place.output} {state}.")
