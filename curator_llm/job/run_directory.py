"""The directory of a run: its manifest, journal and report.

::

    runs/topics/
      manifest.json    who runs here: run, package version, job and what it means, retries, outputs written
      journal/         every reply, so that nothing is paid for twice
      report.json      how the last execution ended
      _SUCCESS         stands there when it ended well
      lease/           who works here now
      scheduler.json   while it is at work: whom `curator-llm status` asks
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curator_llm import __version__
from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.lease import Lease, take_lease
from curator_llm.job.lease_files import Holder, LeaseFiles
from curator_llm.job.retries import Retry
from curator_llm.journal.segment import Scan, advice, segments_of


class RunDirectory:
    """The directory of a run; one process works there at a time, see `held`.

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

    def held(self, *, wait: bool = False, say: Callable[[str], object] = lambda _: None) -> Lease:
        """Make the directory and return its lease, a context.

        Parameters
        ----------
        wait : bool, default False
            Whether to wait for the process that works there.
        say : callable
            Takes lines for people.

        Raises
        ------
        ConfigurationError
            When it cannot be made, or another process is at work in it.
        """
        try:
            return take_lease(self.path, wait=wait, say=say)
        except OSError as error:
            raise self._unusable(error) from None

    def begin(self, job_text: str, *, retries: Sequence[Retry] = (), **about: Any) -> str:
        """Write the manifest; return the name of the run, the same for all its executions.

        Parameters
        ----------
        job_text : str
        retries : sequence of Retry
            All there are.
        **about : object
            What else is kept of this execution.

        Raises
        ------
        RunError
            When it cannot be written.
        """
        manifest = self.manifest()
        run = manifest.setdefault("run", f"{self.path.name}-{uuid.uuid4().hex[:8]}")
        manifest.setdefault("created_at", datetime.now(UTC).isoformat(timespec="seconds"))
        manifest |= {"version": 1, "package_version": __version__, "job": job_text}
        manifest |= {"directory": str(Path.cwd()), "retries": [retry.as_json() for retry in retries], **about}
        with self._writing(self._success):
            self._success.unlink(missing_ok=True)
        self.write_manifest(manifest)
        return str(run)

    def finish(self, report: Mapping[str, Any], billed: Mapping[str, int], *, success: bool) -> None:
        """Write the report and how far it has billed the journal, and the mark of success behind them.

        Raises
        ------
        RunError
            When one cannot be written; then there is no mark of success.
        """
        self._write(self.report, report)
        manifest = {**self.manifest(), "billed": dict(billed)}
        if success:
            manifest["retries"] = [{**retry, "done": True} for retry in manifest.get("retries", [])]
        self.write_manifest(manifest)
        if success:
            self._write(self._success, {name: report.get(name) for name in ("run", "ended_at", "limit")})

    def retries(self) -> tuple[Retry, ...]:
        """Return the retries of the run, in their order."""
        return tuple(Retry.of_json(said) for said in self.manifest().get("retries", []))

    def billed(self) -> dict[str, int]:
        """Return how far the last report has billed each segment of the journal."""
        return dict(self.manifest().get("billed", {}))

    def has_replies(self) -> bool:
        """Tell whether something was paid for here; mostly known by the first record."""
        try:
            return any(record.billed for path in segments_of(self.journal) for _, _, record in Scan(path))
        except OSError:
            return True

    def working(self) -> Holder | None:
        """Return who works here, None for nobody."""
        return LeaseFiles(self.path / "lease").working()

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
        except NotADirectoryError as error:
            raise self._unusable(error) from None
        except (OSError, ValueError):
            manifest = None
        if not isinstance(manifest, dict):
            msg = f"{self._manifest} cannot be read: name another run_dir, or remove the file (the journal is kept)."
            raise ConfigurationError(msg)
        run = manifest.get("run", "run")
        if not isinstance(run, str) or {"/", os.sep, "\0"} & set(run):  # it becomes a part of paths
            msg = f"{self._manifest} names the run {run!r}, which is no name: restore it, or name another run_dir."
            raise ConfigurationError(msg)
        return manifest

    def _unusable(self, error: OSError) -> ConfigurationError:
        msg = f"The run directory {self.path} cannot be used ({error.strerror}). {advice(error)} Or name another."
        return ConfigurationError(msg)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace what is known of the run.

        Raises
        ------
        RunError
            When it cannot be written; what was known before still stands there.
        """
        self._write(self._manifest, manifest)

    def _write(self, file: Path, value: Mapping[str, Any]) -> None:
        """Write a file that is there whole or not at all."""
        new = file.with_name(f"{file.name}.new")
        with self._writing(file):
            try:
                with new.open("w", encoding="utf-8") as text:
                    json.dump(value, text, indent=2, ensure_ascii=False)
                    text.write("\n")
                    text.flush()
                    os.fsync(text.fileno())
                new.replace(file)
            except OSError:
                with contextlib.suppress(OSError):
                    new.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _writing(self, file: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = (
                f"Cannot write {file}: {error.strerror or error}. {advice(error)} Then run the same command: replies "
                "stored so far are kept."
            )
            raise RunError(msg) from None
