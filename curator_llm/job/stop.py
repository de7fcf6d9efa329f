"""Stopping a run from elsewhere: a request in its run directory, which the process that works there sees."""

from __future__ import annotations

from pathlib import Path

from curator_llm.errors import ConfigurationError
from curator_llm.job.again import manifest_of
from curator_llm.job.lease_files import LeaseFiles


def stop_run(run_dir: Path) -> str:
    """Ask the process that works in a run directory to stop; return what to tell people.

    Parameters
    ----------
    run_dir : Path

    Raises
    ------
    ConfigurationError
        When it is no run directory, or cannot be written.
    """
    manifest_of(run_dir)
    files = LeaseFiles(run_dir / "lease")
    holder = files.working()
    if holder is None:
        return f"Nobody works in {run_dir}."
    try:
        files.ask_to_stop(holder.number)
    except OSError as error:
        msg = f"{holder} cannot be asked to stop: {run_dir} cannot be written ({error.strerror})."
        raise ConfigurationError(msg) from None
    return f"Asked {holder} to stop: it keeps the replies that are in flight, and ends with exit code 75."
