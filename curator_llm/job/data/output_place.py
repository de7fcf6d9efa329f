"""The place of a job's output: who wrote what is there, and how a whole output takes its place.

The output is written beside its path, into ``<output>.partial-<run>-<lease>``, and put in place at the end: at once on
a file system, file by file on a store. A run replaces only what it wrote itself: the manifest of its run directory says
which files these are.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from curator_llm.errors import ConfigurationError, CuratorLLMError, RunError
from curator_llm.job.data.output_files import Files, files_of
from curator_llm.job.data.storage import Location, StorePath, make_directory, reached


class Manifest(Protocol):
    """What the run directory keeps of a run."""

    path: Path

    def manifest(self) -> dict[str, Any]:
        """Return what is known of the run; empty before it began."""

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace it."""


class OutputPlace(ABC):
    """Where the output goes, and who may replace what is there.

    The manifest has two entries for an output: ``written``, the files this run put there, and ``moving``, those of a
    move that has begun and not ended.

    Parameters
    ----------
    output : Path or StorePath
    directory : RunDirectory
        Of the run that writes it.
    lease : int, default 0
        What is not whole has its number in its name: a process that was taken for dead may still write there.
    """

    def __init__(self, output: Any, directory: Manifest, lease: int = 0) -> None:
        self.output = output
        self._directory = directory
        self._lease = lease

    @property
    @abstractmethod
    def partial(self) -> Any:
        """Where the output is written until it is whole."""

    @property
    @abstractmethod
    def moving(self) -> bool:
        """Whether readers may see a part of the output: a move is begun and not ended."""

    def check(self) -> None:
        """Check that nothing is there, or only what this run wrote there earlier.

        Raises
        ------
        ConfigurationError
            When there is anything else, or a file was changed since.
        RunError
            When the store is not reached.
        """
        there = files_of(self.output)
        own = self._own(there)
        for name in there:
            if name not in own:
                raise self._not_ours(name)

    def begin(self) -> None:
        """Clear what earlier executions left, and make the directory `partial`.

        Raises
        ------
        ConfigurationError
            When nothing can be written there.
        RunError
            When the store fails.
        """
        try:
            self.clear()
            make_directory(self.partial)
        except OSError as error:
            msg = (
                f"The output {self.output} cannot be written ({error.strerror or error}): name another, or change "
                "permissions."
            )
            raise ConfigurationError(msg) from None

    @abstractmethod
    def clear(self) -> None:
        """Remove what earlier executions left; mend an output that one was killed while replacing."""

    @abstractmethod
    def put_in_place(self, whole: Any) -> None:
        """Move what was written to its place; what this run wrote there earlier goes.

        Parameters
        ----------
        whole : Path or StorePath
            File or directory, on the file system or store of the output.

        Raises
        ------
        ConfigurationError
            When something else is there by now.
        RunError
            When the store fails.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove what is not whole."""

    def _own(self, there: Files) -> Files:
        """Return the files of the output that this run put there."""
        written, moving = self._known("written"), self._known("moving").get("files", {})
        return {
            name: file
            for name, file in there.items()
            if file == written.get(name) or self._arrived(file, moving.get(name))
        }

    @abstractmethod
    def _arrived(self, file: dict[str, Any] | None, moved: dict[str, Any] | None) -> bool:
        """Say whether a file is one that was moved here."""

    def _not_ours(self, name: str = "") -> ConfigurationError:
        what = f"{self.output} holds {name}" if name else f"{self.output} exists"
        msg = (
            f"The output {what}, and the run in {self._directory.path} did not write it, or it was changed since: "
            "move it away, or name another output. Nothing was changed."
        )
        return ConfigurationError(msg)

    def _known(self, what: str) -> dict[str, Any]:
        known = self._directory.manifest().get(what, {}).get(str(self.output))
        return known if isinstance(known, dict) else {}  # earlier versions kept a number

    def _record(self, **known: Any) -> None:
        manifest = self._directory.manifest()
        for what, value in known.items():
            others = {url: said for url, said in manifest.get(what, {}).items() if url != str(self.output)}
            manifest[what] = others if value is None else {**others, str(self.output): value}
        self._directory.write_manifest(manifest)


def output_place(output: Location, directory: Manifest, lease: int = 0) -> OutputPlace:
    """Return the place of an output; the parameters are those of `OutputPlace`."""
    return LocalPlace(output, directory, lease) if isinstance(output, Path) else StorePlace(output, directory, lease)


class LocalPlace(OutputPlace):
    """An output on a local or shared file system, put in place by one rename."""

    moving = False  # one rename moves all

    @property
    def partial(self) -> Path:
        """Where the output is written until it is whole."""
        partial = self._beside("partial")
        return partial.with_name(f"{partial.name}-{self._lease}")

    def check(self) -> None:
        """Check that the output's path is free, or holds only what this run wrote there earlier.

        Raises
        ------
        ConfigurationError
            When it holds anything else, a file was changed since, or it is a directory around the run's own.
        """
        output, run_dir = self.output, self._directory.path
        if output == run_dir or output in run_dir.parents:
            msg = f"The output {output} is the run directory or holds it, and would replace it: name another path."
            raise ConfigurationError(msg)
        super().check()
        if os.path.lexists(output) and not (self._known("written") or self._known("moving")):
            raise self._not_ours()  # an empty directory of somebody else

    def clear(self) -> None:
        """Remove what earlier executions left; bring back an output that one was killed while replacing."""
        before = self._beside("replaced")
        if before.exists() and not self.output.exists():  # killed between the two renames
            before.rename(self.output)
        _remove(before)
        if self._known("moving"):
            self._record(written=self._own(files_of(self.output)), moving=None)
        for partial in self.output.parent.glob(f"{glob.escape(self._beside('partial').name)}-*"):
            shutil.rmtree(partial, ignore_errors=True)

    def put_in_place(self, whole: Path) -> None:
        """Move what was written to its place, at once; what this run wrote there earlier goes.

        Raises
        ------
        ConfigurationError
            When something else is there by now.
        """
        self.check()  # it may have come up while the job ran
        before, new = self._beside("replaced"), files_of(whole)
        self._record(moving={"files": new})
        if self.output.exists():
            self.output.rename(before)
        whole.rename(self.output)
        self._record(written=new, moving=None)
        _remove(before)

    def discard(self) -> None:
        """Remove what is not whole."""
        with contextlib.suppress(OSError):
            _remove(self.partial)

    def _arrived(self, file: dict[str, Any] | None, moved: dict[str, Any] | None) -> bool:
        return file == moved  # a rename changes nothing of a file

    def _beside(self, what: str) -> Path:
        output: Path = self.output
        return output.with_name(f"{self.output.name}.{what}-{self._directory.manifest()['run']}")


class StorePlace(OutputPlace):
    """An output on a store.

    Stores do not rename directories, so files are moved one by one, while readers see a part of the output; the mark of
    success in the run directory comes after. In this order:

    1. the manifest says which files move;
    2. those of the output before are removed;
    3. the new ones are moved;
    4. the manifest says that these are the run's.

    A run that was killed after the first step ends the move when it starts again.
    """

    @property
    def partial(self) -> StorePath:
        """Where the output is written until it is whole."""
        run = re.sub(r"[^\w.-]", "_", self._directory.manifest()["run"])  # stores take other characters for wildcards
        output: StorePath = self.output
        return output.with_name(f"{output.name}.partial-{run}-{self._lease}")

    @property
    def moving(self) -> bool:
        """Whether a move is begun and not ended."""
        return bool(self._known("moving"))

    def clear(self) -> None:
        """Remove what earlier executions left; end a move during which one was killed."""
        if self.moving:
            self._move()
        for name in self._known("partials"):  # not looked for: the right to list what is above may be missing
            if name.startswith(f"{self.output.name}.partial-") and "/" not in name:
                self.output.with_name(name).remove()
        self._record(partials={self.partial.name: self._lease})

    def put_in_place(self, whole: StorePath) -> None:
        """Move what was written to its place, file by file; what this run wrote there earlier goes.

        Raises
        ------
        ConfigurationError
            When something else is there by now.
        RunError
            When the store fails; what was not moved is kept, and moved at the next start.
        """
        self.check()  # it may have come up while the job ran
        self._record(moving={"from": str(whole), "files": files_of(whole)})
        try:
            self._move()
        except RunError as error:
            msg = f"{error} The output was being put in place: run the same command to end that."
            raise RunError(msg) from None

    def discard(self) -> None:
        """Remove what is not whole, unless it is about to be put in place."""
        if self.moving:
            return
        with contextlib.suppress(CuratorLLMError):
            self.partial.remove()

    def _arrived(self, file: dict[str, Any] | None, moved: dict[str, Any] | None) -> bool:
        """Say whether a file was moved here: its checksum may have changed on the way, its size has not."""
        return file is not None and moved is not None and file["size"] == moved["size"]

    def _move(self) -> None:
        """Do what is left of a move; may be killed anywhere and done again."""
        moving = self._known("moving")
        new, source = moving["files"], StorePath(moving["from"], self.output.options)
        there, waiting = files_of(self.output), files_of(source)
        if all(name in waiting or self._arrived(there.get(name), file) for name, file in new.items()):
            before = self._known("written")
            replaced = [name for name, file in there.items() if file == before.get(name) and name not in new]
            _remove_files(self.output, [*replaced, *(name for name in waiting if name in there)])
            _move_files(source, self.output, [name for name in new if name in waiting])
            there = files_of(self.output)
        self._record(written=there, moving=None)


def _remove_files(location: StorePath, names: Iterable[str]) -> None:
    paths = [location.below(name).path for name in names]
    with reached(location):
        if paths:
            location.fs.rm(paths)


def _move_files(source: StorePath, target: StorePath, names: list[str]) -> None:
    fs = target.fs
    pairs = [(source.below(name).path, target.below(name).path) for name in names]
    with reached(target):
        if any(names):
            target.make_directory()
        if pairs and fs.async_impl:  # many at once
            fs.copy([old for old, _ in pairs], [new for _, new in pairs])
            fs.rm([old for old, _ in pairs])
        else:
            for old, new in pairs:
                fs.mv(old, new)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
