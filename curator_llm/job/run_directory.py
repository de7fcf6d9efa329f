"""The directory of a run: its manifest, journal and report.

::

    runs/topics/
      manifest.json    who runs here: run, package version, job file, outputs written
      journal/         every reply, so that nothing is paid for twice
      report.json      how the last execution ended
      _SUCCESS         stands there when it ended well
      lock             held while it runs
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curator_llm import __version__
from curator_llm.errors import ConfigurationError


class RunDirectory:
    """The directory of a run; held by one process at a time, see `held`.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal"
        self.report = path / "report.json"
        self._success = path / "_SUCCESS"
        self._manifest = path / "manifest.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory and keep other processes of this host out.

        Raises
        ------
        ConfigurationError
            When it cannot be made, or another process is at work in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            msg = (
                f"The run directory {self.path} cannot be used ({error.strerror}): name another, or change permissions."
            )
            raise ConfigurationError(msg) from None
        with file:
            if not _lock(file.fileno()):
                file.seek(0)
                msg = f"Another process is at work in {self.path} ({file.read().strip()}): wait for it, or stop it."
                raise ConfigurationError(msg)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield

    def begin(self, job_text: str) -> str:
        """Write the manifest; return the name of the run, the same for all its executions."""
        manifest = self.manifest()
        run = manifest.setdefault("run", f"{self.path.name}-{uuid.uuid4().hex[:8]}")
        manifest.setdefault("created_at", datetime.now(UTC).isoformat(timespec="seconds"))
        manifest |= {"version": 1, "package_version": __version__, "job": job_text}
        self._success.unlink(missing_ok=True)
        self.write_manifest(manifest)
        return str(run)

    def finish(self, report: Mapping[str, Any], *, success: bool) -> None:
        """Write the report, and the mark of success behind it."""
        write_json(self.report, report)
        if success:
            write_json(self._success, {"run": report["run"], "ended_at": report["ended_at"]})

    def manifest(self) -> dict[str, Any]:
        """Return what is known of the run; empty before it began.

        Raises
        ------
        ConfigurationError
            When the file cannot be read.
        """
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            manifest = None
        if not isinstance(manifest, dict):
            msg = f"{self._manifest} cannot be read: name another run_dir, or remove the file (the journal is kept)."
            raise ConfigurationError(msg)
        return manifest

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace what is known of the run."""
        write_json(self._manifest, manifest)


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    new = file.with_name(f"{file.name}.new")
    with new.open("w", encoding="utf-8") as text:
        json.dump(value, text, indent=2, ensure_ascii=False)
        text.write("\n")
        text.flush()
        os.fsync(text.fileno())
    new.replace(file)


def _lock(file: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: nothing keeps a second process out there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
