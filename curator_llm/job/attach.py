"""The cluster a job runs on: one on this machine for the time of the run, or one that is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin

from curator_llm import runtime
from curator_llm.cluster.journal_places import compare_journals
from curator_llm.errors import RunError
from curator_llm.job.file.job_file import ClusterSpec
from curator_llm.job.interrupts import SIGNALS

_CONNECT_S = 30.0
_WORKERS_S = 120.0
#: How long requests in flight may take when a run stops: batch systems and Kubernetes kill 30 s after SIGTERM.
DRAIN_S = 20.0
_RPC_S = 5.0
#: A piece that was open on so many workers that died is given up. Dask's 3 is few where machines are taken away.
_ALLOWED_FAILURES = 20


@contextlib.contextmanager
def attached(
    cluster: ClusterSpec,
    *,
    processes: bool = True,
    held_off: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Client]:
    """Give a client of the cluster, with at least one worker.

    Parameters
    ----------
    cluster : ClusterSpec
    processes : bool, default True
        Whether a cluster on this machine has workers in processes of their own.
    held_off : callable
        Gives the context in which such a cluster starts: one that is half there cannot be closed.

    Raises
    ------
    RunError
        When the scheduler is not reached, or no worker comes.
    """
    with contextlib.ExitStack() as stack:
        if cluster.scheduler is None:
            with held_off():
                local = stack.enter_context(_local_cluster(cluster, processes=processes))
                client = stack.enter_context(Client(local))
                stack.callback(_drain, client)
                if processes:
                    client.register_plugin(_OwnProcess())
        else:
            client = stack.enter_context(_connect(cluster.scheduler))
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError:
            msg = (
                f"No worker came to {client.scheduler.address} within {_WORKERS_S:g} s: start workers, then run again."
            )
            raise RunError(msg) from None
        compare_journals(client)
        yield client


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


def _local_cluster(cluster: ClusterSpec, *, processes: bool) -> LocalCluster:
    deaf = _deaf_children() if processes else nullcontext()
    with dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_FAILURES}), deaf:
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
