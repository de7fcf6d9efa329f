"""The process that drives a run: gives pieces to the workers, counts what they report, and stops when it must."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, Future, as_completed

from curator_llm.cluster.preflight import check_for_job
from curator_llm.cluster.progress import Progress
from curator_llm.errors import CuratorLLMError
from curator_llm.frame.lines import held_back_by
from curator_llm.job.attach import DRAIN_S, attached, result_of
from curator_llm.job.attach_order import chosen
from curator_llm.job.bill import run_name
from curator_llm.job.check import CheckedJob, make_local_server
from curator_llm.job.data.outputs import make_output
from curator_llm.job.data.parts import join_lines, remove_strays
from curator_llm.job.data.storage import Location
from curator_llm.job.failures import check_failures
from curator_llm.job.file.cluster import ends_with_the_run
from curator_llm.job.file.filters import Filter
from curator_llm.job.file.job_file import Job, LocalModel
from curator_llm.job.interrupts import Interrupts
from curator_llm.job.pipeline import Step, answer_piece, build_steps
from curator_llm.job.places import Place
from curator_llm.job.progress import ProgressReporter
from curator_llm.job.report import Tally
from curator_llm.job.retries import RetriedStage, Retry
from curator_llm.job.status import findable
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint

#: How often it looks for pieces that have ended.
_LOOK_S = 0.1


@dataclass(frozen=True)
class Driver:
    """Answers the rows of a job.

    Parameters
    ----------
    say : callable
        Takes the lines for people.
    processes : bool
        Whether a cluster on this machine has workers in processes of their own.
    progress_interval_s : float or None
    interrupts : Interrupts
    """

    say: Callable[[str], object]
    processes: bool
    progress_interval_s: float | None
    interrupts: Interrupts

    def answer(
        self, checked: CheckedJob, retries: Sequence[Retry], tally: Tally, partial: Location, *, run: str, journal: Path
    ) -> Location:
        """Answer and write all rows; return what is to be put in place.

        Parameters
        ----------
        checked : CheckedJob
        retries : sequence of Retry
        tally : Tally
            Told what pieces report.
        partial : Path or StorePath
            Where the pieces are written; made.
        run : str
            Who pays.
        journal : Path

        Raises
        ------
        RunError
            When no row can work.
        RowsFailedError
            When more rows of a stage fail than it allows.
        """
        job = checked.job
        with contextlib.ExitStack() as stack:
            endpoints = {name: self._started(job, name, endpoint, stack) for name, endpoint in job.endpoints.items()}
            steps = _of_run(build_steps(job, endpoints, retries), run, journal)
            self._announce(steps, checked.source.rows, journal, job.budget)
            cluster = chosen(job.cluster)
            client = stack.enter_context(
                attached(cluster, say=self.say, processes=self.processes, held_off=self.interrupts.held_off)
            )
            check_for_job(client, _endpoints_of(steps), journal, self.say)
            total = checked.source.rows * len(tally.stages) if ends_with_the_run(cluster) else None
            stack.enter_context(findable(job.run_dir, client.scheduler_info()["address"], total=total))
            pieces = self._answer(client, checked, steps, tally, partial)
        remove_strays(partial, range(pieces))
        if job.output.format == "jsonl" and job.output.path.suffix == ".jsonl":
            join_lines(partial, partial / "whole")
            return partial / "whole"
        return partial

    def _started(self, job: Job, name: str, endpoint: Endpoint | LocalModel, stack: contextlib.ExitStack) -> Endpoint:
        if isinstance(endpoint, Endpoint):
            return endpoint
        server = stack.enter_context(make_local_server(endpoint, Place(job.file, f"endpoints.{name}")))
        return endpoint.endpoint(server.base_url, server.slots)

    def _announce(self, steps: tuple[Step, ...], rows: int, journal: Path, budget: Budget | None) -> None:
        counted = f"{rows:,} rows"
        for step in steps:
            if isinstance(step, Filter):
                counted = f"up to {rows:,} rows"
                continue
            endpoint = step.spec.endpoint
            line = f"{step.spec.output}: {counted}, {endpoint.model} at {endpoint.address}, replies kept in {journal}"
            if isinstance(step, RetriedStage):
                line += "".join(dict.fromkeys(f"; {' and '.join(statuses)} asked anew" for statuses, _ in step.retries))
            self.say(line)
        if budget is not None:
            self.say(f"budget: {budget}, over all executions of this run")

    def _answer(
        self, client: Client, checked: CheckedJob, steps: tuple[Step, ...], tally: Tally, partial: Location
    ) -> int:
        """Answer all pieces; return how many there were."""
        source = checked.source
        pieces = source.pieces()
        output = make_output(checked.job.output, partial, checked.meta, source)
        if not pieces:
            output.write(checked.meta, 0)
            return 1
        engines = Progress(client)
        total = source.rows * len(tally.stages)
        with ProgressReporter(engines, total=total, interval_s=self.progress_interval_s) as progress:
            common: dict[str, Any] = {"steps": steps, "output": output, "execution": uuid.uuid4().hex}
            futures = client.map(answer_piece, list(pieces), range(len(pieces)), pure=False, **common)
            started = time.monotonic()
            try:
                for future in self._ended(futures):
                    report = result_of(future)
                    if isinstance(report, CuratorLLMError):
                        raise report
                    tally.add(report)
                    progress.add(report)
                    for stage, counts in zip(tally.stages, tally.counts, strict=True):
                        rows_to_come = source.rows - tally.rows_in
                        check_failures(stage.spec.output, counts, stage.spec.fail_on_error, rows_to_come=rows_to_come)
                    future.release()
            except BaseException as error:
                client.cancel(futures)
                if isinstance(error, KeyboardInterrupt) and ends_with_the_run(chosen(checked.job.cluster)):
                    self.say(f"Stopping: replies in flight are awaited, for up to {DRAIN_S:g} s.")
                raise
            finally:
                tally.answering_s = time.monotonic() - started
        tally.held_back_by = held_back_by(engines.look().all.counts)
        return len(pieces)

    def _ended(self, futures: list[Future[Any]]) -> Iterator[Future[Any]]:
        """Return futures as they end; an interruption is noticed off the main thread, too."""
        ending = as_completed(futures)
        while not ending.is_empty():
            self.interrupts.check()
            batch = ending.next_batch(block=False)
            if any(future.cancelled() for future in batch):  # not by us
                self.interrupts.request("The scheduler is gone, or somebody cancelled the run there")
                continue
            yield from batch
            if not batch:
                time.sleep(_LOOK_S)


def _endpoints_of(steps: tuple[Step, ...]) -> list[Endpoint]:
    asking = [step for step in steps if not isinstance(step, Filter)]
    return [
        stage.spec.endpoint for step in asking for stage in (step.stages if isinstance(step, RetriedStage) else [step])
    ]


def _of_run(steps: tuple[Step, ...], run: str, journal: Path) -> tuple[Step, ...]:
    return tuple(
        step
        if isinstance(step, Filter)
        else step.with_run(run=run_name(run, step.spec.output), journal=str(journal), budget=run)
        for step in steps
    )
