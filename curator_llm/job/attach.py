"""The cluster a job runs on: one of its own for the time of the run, or one that is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin

from curator_llm import runtime
from curator_llm.cluster.journal_places import compare_journals
from curator_llm.cluster.plain_schedulers import warning_of_plain_scheduler
from curator_llm.errors import RunError
from curator_llm.job.cluster_class import started
from curator_llm.job.file.cluster import ClassCluster, ClusterSpec, LocalWorkers, RunningCluster, ends_with_the_run
from curator_llm.job.interrupts import SIGNALS

_CONNECT_S = 30.0
_FILE_S = 120.0
_WORKERS_S = 120.0
_LOOK_S = 0.1
#: How long requests in flight may take when a run stops: batch systems and Kubernetes kill 30 s after SIGTERM.
DRAIN_S = 20.0
_RPC_S = 5.0
#: A piece that was open on so many workers that died is given up. Dask's 3 is few where machines are taken away.
_ALLOWED_FAILURES = 20


@contextlib.contextmanager
def attached(
    cluster: ClusterSpec,
    *,
    say: Callable[[str], object] = lambda _: None,
    processes: bool = True,
    held_off: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Client]:
    """Give a client of the cluster, with at least one worker.

    Parameters
    ----------
    cluster : ClusterSpec
    say : callable
        Takes the lines for people: which cluster it is, and why.
    processes : bool, default True
        Whether a cluster on this machine has workers in processes of their own.
    held_off : callable
        Gives the context in which the run's own cluster starts: one that is half there cannot be closed.

    Raises
    ------
    ConfigurationError
        When the class of a cluster cannot be used.
    RunError
        When the scheduler is not reached, or no worker comes.
    """
    with contextlib.ExitStack() as stack:
        match cluster:
            case RunningCluster():
                client = stack.enter_context(
                    _connect(cluster.scheduler or address_in(Path(cluster.scheduler_file or "")))
                )
            case LocalWorkers():
                with held_off():
                    client = stack.enter_context(Client(stack.enter_context(_local(cluster, processes=processes))))
                    if processes:
                        client.register_plugin(_OwnProcess())
            case ClassCluster():
                with held_off(), _own_scheduler():
                    client = stack.enter_context(Client(stack.enter_context(started(cluster))))
        if ends_with_the_run(cluster):
            stack.callback(_drain, client)
        _wait_for_worker(client, say, may_queue=isinstance(cluster, ClassCluster))
        threads = client.nthreads().values()
        where = "this machine" if isinstance(cluster, LocalWorkers) else _address(client)
        say(
            f"cluster: {where}, {_counted(len(threads), 'worker')} with "
            f"{_counted(sum(threads), 'thread')}, {cluster.why}"
        )
        if (warning := warning_of_plain_scheduler(client)) is not None:
            say(warning)
        compare_journals(client)
        yield client


def address_in(file: Path) -> str:
    """Return the address that a scheduler says in its file, which is waited for.

    Raises
    ------
    RunError
        When it does not come.
    """
    until = time.monotonic() + _FILE_S
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not there yet, or half written
            return str(json.loads(file.read_text(encoding="utf-8"))["address"])
        if time.monotonic() > until:
            msg = (
                f"No scheduler says its address in {str(file)!r} within {_FILE_S:g} s: start one with "
                f"`dask scheduler --scheduler-file {file}`, on a file system that this machine shares."
            )
            raise RunError(msg)
        time.sleep(_LOOK_S)


def result_of(future: Future[Any]) -> Any:
    """Return what a task gave back.

    Raises
    ------
    RunError
        When each worker that had the task died.
    """
    try:
        return future.result()
    except KilledWorker as error:
        msg = (
            f"Workers died while at work on one piece of the input, {error.allowed_failures + 1} in all, as when "
            "memory runs out: give them more, or find out from their logs what ended them. Then run the same command: "
            "replies stored so far are kept."
        )
        raise RunError(msg) from None


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=_CONNECT_S)
    except (OSError, TimeoutError, ValueError):
        msg = f"No scheduler answers at {address!r}: check the address, such as tcp://10.0.0.1:8786, and that it runs."
        raise RunError(msg) from None


def _wait_for_worker(client: Client, say: Callable[[str], object], *, may_queue: bool) -> None:
    """Wait for the first worker: those of a batch system may queue for hours, others are there or never come."""
    while True:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError:
            if may_queue:
                say(f"No worker has come to {_address(client)} yet: they may queue. Ctrl-C ends the wait.")
                continue
            msg = f"No worker came to {_address(client)} within {_WORKERS_S:g} s: start workers, then run again."
            raise RunError(msg) from None
        return


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _address(client: Client) -> str:
    scheduler: Any = client.scheduler
    return str(scheduler.address)


def _own_scheduler() -> AbstractContextManager[object]:
    return dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_FAILURES})


def _local(cluster: LocalWorkers, *, processes: bool) -> LocalCluster:
    with _own_scheduler(), _deaf_children() if processes else nullcontext():
        return LocalCluster(
            n_workers=cluster.n_workers,
            threads_per_worker=cluster.threads_per_worker,
            memory_limit=cluster.memory_limit,
            processes=processes,
            dashboard_address=":0",
        )


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Let the processes that are started here never hear Ctrl-C, SIGTERM and SIGHUP.

    A terminal sends them to all processes of a run, a batch system too; workers have replies to keep, so the run alone
    takes them. Threads and processes inherit what is blocked, from their first moment on.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # the first process that Python starts; it unblocks some of them here
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drain(client: Client) -> None:
    """Let what is in flight end and be kept: Dask gives a worker that closes 4 s, and then kills it."""

    async def drain() -> None:
        await asyncio.wait_for(client.run(_close_engine, on_error="ignore"), DRAIN_S + _RPC_S)

    with contextlib.suppress(Exception):  # workers that are gone have nothing to wait for
        client.sync(drain)


async def _close_engine(dask_worker: Worker) -> None:
    await asyncio.to_thread(runtime.close, dask_worker, DRAIN_S)


class _OwnProcess(WorkerPlugin):
    """For worker processes that live as long as the run: they would warn of each task that it cancels when it stops."""

    name = "curator-llm-own-process"

    def setup(self, worker: Worker) -> None:
        del worker
        logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)
