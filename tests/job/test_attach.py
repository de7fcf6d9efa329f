"""The cluster of a job: what becomes of it is said in words."""

from __future__ import annotations

import os
import signal

import dask
import pytest
from distributed import Client, LocalCluster

from curator_llm.errors import RunError
from curator_llm.job.attach import result_of


def test_a_piece_on_which_worker_after_worker_died_ends_the_run_with_advice():
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, processes=True, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster) as client,
        pytest.raises(RunError, match=r"^Workers died while at work on one piece .*, 1 in all, .* replies stored"),
    ):
        result_of(client.submit(die))
