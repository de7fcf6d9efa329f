"""Where data lies: a path of this machine, or a URL of a store that fsspec knows (s3://, gs://, hf://, memory://, ...).

Local data keeps `pathlib.Path`. A `StorePath` travels to the workers with its options, so these hold no secret: each
process finds the credentials where the store's own tools find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curator_llm.errors import CuratorLLMError, RunError
from curator_llm.job.data.store_secrets import credentials_of, looks_secret, secret_in_options, secret_in_url
from curator_llm.job.places import Place


@dataclass(frozen=True)
class StorePath:
    """A path on a store.

    Parameters
    ----------
    url : str
    options : mapping, optional
        Of the file system that fsspec makes of the URL.

    Examples
    --------
    >>> output = StorePath("memory://team/tagged")
    >>> str(output / "part-00000.parquet"), output.with_name("beside").name
    ('memory://team/tagged/part-00000.parquet', 'beside')
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fs(self) -> Any:
        """The file system; fsspec keeps one per process and options."""
        return fsspec.core.url_to_fs(self.url, **self.options)[0]

    @property
    def path(self) -> str:
        """What the file system calls it."""
        return str(fsspec.core.url_to_fs(self.url, **self.options)[1])

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The file name's last suffix, with its dot."""
        return Path(self.name).suffix

    def with_name(self, name: str) -> StorePath:
        """Return the path beside this one."""
        return StorePath(f"{self.url.rpartition('/')[0]}/{name}", self.options)

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self.url}/{name}", self.options)

    def below(self, name: str) -> StorePath:
        """Return a file as `files` names it."""
        return self / name if name else self

    def make_directory(self) -> None:
        """Make it a directory where the store has some."""
        with suppress(Exception):  # most stores have none; where one is missing, the first write says so
            self.fs.mkdir(self.path, create_parents=False)

    @contextmanager
    def open(self, mode: str) -> Iterator[Any]:
        """Open it for bytes."""
        with reached(self), self.fs.open(self.path, mode) as file:
            yield file

    def write_bytes(self, content: bytes) -> None:
        """Write a file with one request."""
        with reached(self):
            self.fs.pipe_file(self.path, content)

    def unlink(self) -> None:
        """Remove a file."""
        with reached(self):
            self.fs.rm_file(self.path)

    def remove(self) -> None:
        """Remove it with all that is below."""
        with reached(self):
            self.fs.invalidate_cache()
            if self.fs.exists(self.path):
                self.fs.rm(self.path, recursive=True)

    def files(self) -> dict[str, dict[str, Any]]:
        """Return the files below, as the store has them now: their names from here on, "" for this one itself."""
        with reached(self):
            self.fs.invalidate_cache()  # others write, too
            found = self.fs.find(self.path, detail=True) if self.fs.exists(self.path) else {}
        files = {name[len(self.path) :].lstrip("/"): info for name, info in found.items()}
        return {name: info for name, info in files.items() if not (name.endswith("/") or info["type"] == "directory")}

    def __str__(self) -> str:
        return self.url


#: Where data lies.
Location = Path | StorePath


@dataclass(frozen=True)
class StoredFile:
    """A file to read, local or on a store; travels to workers.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
    path : str
    """

    fs: Any
    path: str

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open it for reading bytes.

        Raises
        ------
        RunError
            When a store does not give it.
        """
        with reached(self, local=self.is_local), self.fs.open(self.path, "rb") as stream:
            yield stream

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`: one request.

        Raises
        ------
        RunError
            When a store does not give them.
        """
        with reached(self, local=self.is_local):
            return bytes(self.fs.cat_file(self.path, start=start, end=stop))

    @property
    def is_local(self) -> bool:
        """Whether it lies on a file system of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def __str__(self) -> str:
        return self.path if self.is_local else str(self.fs.unstrip_protocol(self.path))


def read_location(text: str, options: Any, place: Place) -> Location:
    """Read a path or URL of a job file. Looks at nothing, imports nothing.

    Parameters
    ----------
    text : str
        Relative paths are relative to the current directory.
    options : mapping or None
        What the job file has as `storage_options`.
    place : Place
        For errors.

    Raises
    ------
    JobFileError
        When it holds what looks like a secret, which is not repeated; when options stand beside a local path.
    """
    protocol, _, rest = text.partition("://")
    if not rest or protocol in {"file", "local"}:
        if options:
            msg = f"`storage_options` are for URLs such as s3://...; {text!r} is a local path."
            raise place.error(msg)
        return Path.cwd() / Path(rest or text).expanduser()
    where = f"every worker finds credentials in {credentials_of(text)}"
    if secret_in_url(text):
        msg = f"the URL holds a secret, and job files travel: leave it out; {where}."
        raise place.error(msg)
    if not isinstance(options or {}, Mapping):
        msg = f"`storage_options` is {options!r}: give a mapping, such as {{anon: true}}."
        raise place.error(msg)
    name = secret_in_options(options or {})
    if name is not None:
        msg = f"`storage_options.{name}` looks like a secret, and job files travel: leave it out; {where}."
        raise place.error(msg)
    return StorePath(text.rstrip("/"), dict(options or {}))


def make_directory(location: Location) -> None:
    """Make a new directory to write to. Stores get an empty file there, too: what fails now costs nothing.

    Raises
    ------
    OSError
        When this machine does not make it.
    RunError
        When the store takes no files there; buckets are not made.
    """
    if isinstance(location, Path):
        location.mkdir(parents=True)
        return
    location.make_directory()
    (location / "_started").write_bytes(b"")


def check_store(location: Location, place: Place) -> None:
    """Make the file system of a URL; what it needs may not be installed.

    Raises
    ------
    JobFileError
        With the sentence of fsspec that names the package.
    """
    if isinstance(location, Path):
        return
    try:
        location.fs  # noqa: B018  made here, kept by fsspec
    except ImportError as error:
        package = re.search(r"(?i)install '?([\w.\[\]-]+)", str(error))
        line = f" (pip install {package[1]})" if package and package[1] != "the" else ""
        msg = f"{location}: {str(error).rstrip('.')}{line}, here and on every worker."
        raise place.error(msg) from None
    except Exception as error:  # noqa: BLE001  each store has exceptions of its own
        raise place.error(_said(str(location), error)) from None


@contextmanager
def reached(where: object, *, local: bool = False) -> Iterator[None]:
    """Turn what a store raises into an error of ours; what local files raise stays as it is.

    Raises
    ------
    RunError
        With the store's reason; texts that may hold more than a reason stay out.
    """
    try:
        yield
    except CuratorLLMError:
        raise
    except Exception as error:
        if local:
            raise
        raise RunError(_said(str(where), error)) from None


def _said(where: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{where}: no such file, directory or bucket."
    reason = str(error).partition("\n")[0] if isinstance(error, OSError | ValueError | TypeError) else ""
    said = type(error).__name__ if not reason or looks_secret(reason) else reason
    return (
        f"{where} cannot be reached ({said}): check the address and `storage_options`; credentials are found in "
        f"{credentials_of(where)}."
    )
