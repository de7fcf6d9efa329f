"""The place of a job's output: who wrote what is there, and how a whole output takes its place.

The output is written beside its path, into ``<output>.partial-<run>-<lease>``, and put in place at the end: at once on
a file system, file by file on a store. A run replaces only what it wrote itself: the manifest of its run directory says
what that is.
"""

from __future__ import annotations

import contextlib
import glob
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from curator_llm.errors import ConfigurationError, CuratorLLMError, RunError
from curator_llm.job.storage import Location, StorePath, reached


class Manifest(Protocol):
    """What the run directory keeps of a run."""

    path: Path

    def manifest(self) -> dict[str, Any]:
        """Return what is known of the run; empty before it began."""

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace it."""


class OutputPlace(Protocol):
    """Where the output goes, and who may replace what is there."""

    output: Any
    partial: Any
    moving: Any  # true while a move is begun and not ended

    def check(self) -> None:
        """Check that the output's path is free, or holds what this run wrote there earlier."""

    def clear(self) -> None:
        """Remove what earlier executions left; mend an output that one was killed while replacing."""

    def put_in_place(self, whole: Any) -> None:
        """Move what was written to its place; what this run wrote there earlier goes."""

    def discard(self) -> None:
        """Remove what is not whole."""


def output_place(output: Location, directory: Manifest, lease: int = 0) -> OutputPlace:
    """Return the place of an output.

    Parameters
    ----------
    output : Path or StorePath
    directory : RunDirectory
        Of the run that writes it.
    lease : int, default 0
        What is not whole has its number in its name: a process that was taken for dead may still write there.
    """
    kind: Any = LocalPlace if isinstance(output, Path) else StorePlace
    place: OutputPlace = kind(output, directory, lease)
    return place


class LocalPlace:
    """An output on a local or shared file system: its own by inode, put in place by one rename.

    Parameters
    ----------
    output : Path
    directory : RunDirectory
    lease : int, default 0
        See `output_place`.
    """

    moving = False  # one rename moves all

    def __init__(self, output: Path, directory: Manifest, lease: int = 0) -> None:
        self.output = output
        self._directory = directory
        self._lease = lease

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
        for partial in self.output.parent.glob(f"{glob.escape(self._beside('partial').name)}-*"):
            shutil.rmtree(partial, ignore_errors=True)

    @property
    def partial(self) -> Path:
        """Where the output is written until it is whole."""
        partial = self._beside("partial")
        return partial.with_name(f"{partial.name}-{self._lease}")

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


#: What stores call the checksum of a file, or else the time when it was written.
_CHECKSUMS = ("ETag", "etag", "md5Hash", "crc32c", "blob_id", "mtime", "created")


class StorePlace:
    """An output on a store: its own by the names, sizes and checksums of its files.

    Stores do not rename directories, so files are moved one by one, while readers see a part of the output; the mark of
    success in the run directory comes after. In this order:

    1. the manifest says which files move;
    2. those of the output before are removed;
    3. the new ones are moved;
    4. the manifest says that these are the run's.

    A run that was killed after the first step ends the move when it starts again.

    Parameters
    ----------
    output : StorePath
    directory : RunDirectory
    lease : int, default 0
        See `output_place`.
    """

    def __init__(self, output: StorePath, directory: Manifest, lease: int = 0) -> None:
        self.output = output
        self._directory = directory
        self._lease = lease

    @property
    def partial(self) -> StorePath:
        """Where the output is written until it is whole."""
        run = re.sub(r"[^\w.-]", "_", self._directory.manifest()["run"])  # stores take other characters for wildcards
        return self.output.with_name(f"{self.output.name}.partial-{run}-{self._lease}")

    @property
    def moving(self) -> bool:
        """Whether a move is begun and not ended."""
        return bool(self._known("moving"))

    def check(self) -> None:
        """Check that nothing is there, or only what this run wrote there earlier.

        Raises
        ------
        ConfigurationError
            When there is anything else.
        RunError
            When the store is not reached.
        """
        written, moving = self._known("written"), self._known("moving").get("files", {})
        for name, file in _listing(self.output).items():
            if file != written.get(name) and not _arrived(file, moving.get(name)):
                raise not_ours(self.output, self._directory.path)

    def clear(self) -> None:
        """Remove what earlier executions left; end a move during which one was killed."""
        if self.moving:
            self._move()
        for name in self._known("partials"):  # not looked for: the right to list what is above may be missing
            self.output.with_name(name).remove()
        self._record(partials={self.partial.name: self._lease})

    def put_in_place(self, whole: StorePath) -> None:
        """Move what was written to its place, file by file; what this run wrote there earlier goes.

        Parameters
        ----------
        whole : StorePath
            File or directory, on the store of the output.

        Raises
        ------
        ConfigurationError
            When something else is there by now.
        RunError
            When the store fails; what was not moved is kept, and moved at the next start.
        """
        self.check()  # it may have come up while the job ran
        self._record(moving={"from": str(whole), "files": _listing(whole)})
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

    def _move(self) -> None:
        """Do what is left of a move; may be killed anywhere and done again."""
        moving = self._known("moving")
        new, source = moving["files"], StorePath(moving["from"], self.output.options)
        there, waiting = _listing(self.output), _listing(source)
        if all(name in waiting or _arrived(there.get(name), file) for name, file in new.items()):
            before = self._known("written")
            replaced = [name for name, file in there.items() if file == before.get(name) and name not in new]
            _remove_files(self.output, [*replaced, *(name for name in waiting if name in there)])
            _move_files(source, self.output, [name for name in new if name in waiting])
            there = _listing(self.output)
        self._record(written=there, moving=None)

    def _known(self, what: str) -> dict[str, Any]:
        return dict(self._directory.manifest().get(what, {}).get(str(self.output), {}))

    def _record(self, **known: Any) -> None:
        manifest = self._directory.manifest()
        for what, value in known.items():
            others = {url: said for url, said in manifest.get(what, {}).items() if url != str(self.output)}
            manifest[what] = others if value is None else {**others, str(self.output): value}
        self._directory.write_manifest(manifest)


def _listing(location: StorePath) -> dict[str, dict[str, Any]]:
    """Return the files of an output: what tells that they are still the same."""
    return {
        name: {"size": info["size"], "checksum": next((str(info[key]) for key in _CHECKSUMS if info.get(key)), None)}
        for name, info in location.files().items()
    }


def _arrived(file: dict[str, Any] | None, moved: dict[str, Any] | None) -> bool:
    """Say whether a file is one that was moved here: its checksum may have changed on the way, its size has not."""
    return file is not None and moved is not None and file["size"] == moved["size"]


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
