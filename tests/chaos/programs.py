"""Programs that are started as processes of their own, watched at the server, and stopped in one way or another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python program, deaf to nothing, whose output is kept."""
    deaf_to_nothing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", deaf_to_nothing + code, *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_dask(*arguments: str) -> subprocess.Popen[str]:
    """Start a scheduler or a worker as its command line does; only this machine reaches it."""
    return start(
        "import sys; from distributed.cli import dask_scheduler, dask_worker\n"
        "{'scheduler': dask_scheduler, 'worker': dask_worker}[sys.argv.pop(1)].main()",
        *arguments,
        "--host",
        "127.0.0.1",
    )
