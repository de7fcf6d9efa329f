"""The place of a job's output: who wrote what is there, and how a whole output takes its place.

The output is written beside its path, into ``<output>.partial-<run>``, and put in place at the end. A run replaces only
what it wrote itself: the manifest of its run directory says what that is.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, Protocol

from curator_llm.errors import ConfigurationError


class Manifest(Protocol):
    """What the run directory keeps of a run."""

    path: Path

    def manifest(self) -> dict[str, Any]:
        """Return what is known of the run; empty before it began."""

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace it."""


class LocalPlace:
    """An output on a local or shared file system: its own by inode, put in place by one rename.

    Parameters
    ----------
    output : Path
    directory : RunDirectory
    """

    def __init__(self, output: Path, directory: Manifest) -> None:
        self.output = output
        self._directory = directory

    def check(self) -> None:
        """Check that the output's path is free, or holds what this run wrote there earlier.

        Raises
        ------
        ConfigurationError
            When it holds anything else, or is a directory around the run's own.
        """
        output, run_dir = self.output, self._directory.path
        if output == run_dir or output in run_dir.parents:
            msg = f"The output {output} is the run directory or holds it, and would replace it: name another path."
            raise ConfigurationError(msg)
        if output.exists() and self._directory.manifest().get("written", {}).get(str(output)) != _inode(output):
            raise not_ours(output, run_dir)

    def clear(self) -> None:
        """Remove what earlier executions left; bring back an output that one was killed while replacing."""
        before = self._beside("replaced")
        if before.exists() and not self.output.exists():  # killed between the two renames
            self._record(_inode(before))
            before.rename(self.output)
        _remove(before)
        _remove(self.partial)

    @property
    def partial(self) -> Path:
        """Where the output is written until it is whole."""
        return self._beside("partial")

    def put_in_place(self, whole: Path) -> None:
        """Move what was written to its place, at once; what this run wrote there earlier goes.

        Parameters
        ----------
        whole : Path
            File or directory, on the file system of the output.
        """
        self.check()  # it may have come up while the job ran
        before = self._beside("replaced")
        inode = _inode(whole)
        if self.output.exists():
            self.output.rename(before)
        self._record(inode)
        whole.rename(self.output)
        _remove(before)

    def discard(self) -> None:
        """Remove what is not whole."""
        with contextlib.suppress(OSError):
            _remove(self.partial)

    def _beside(self, what: str) -> Path:
        return self.output.with_name(f"{self.output.name}.{what}-{self._directory.manifest()['run']}")

    def _record(self, inode: int) -> None:
        manifest = self._directory.manifest()
        manifest["written"] = {**manifest.get("written", {}), str(self.output): inode}
        self._directory.write_manifest(manifest)


def not_ours(output: object, run_dir: Path) -> ConfigurationError:
    """Return the error for an output that somebody else wrote."""
    msg = (
        f"The output {output} exists, and the run in {run_dir} did not write it: move it away, or name another output. "
        "Nothing was changed."
    )
    return ConfigurationError(msg)


def _inode(path: Path) -> int:
    """Return what a file or directory keeps when it is renamed."""
    return path.stat().st_ino


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
