"""What a job reads: Parquet, JSONL or CSV files, on this machine or on a store, cut into pieces of a bounded size."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
from dask.utils import natural_sort_key
from fsspec.implementations.local import LocalFileSystem

from curator_llm.errors import CuratorLLMError, JobFileError
from curator_llm.job.data.csv_lines import CsvLines
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.json_lines import JsonLines
from curator_llm.job.data.parquet_files import ParquetInput
from curator_llm.job.data.pieces import Piece
from curator_llm.job.data.storage import StoredFile, StorePath, check_store, reached

_SUFFIXES = {
    "parquet": (".parquet", ".parq", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
}
_PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}


class Input(Protocol):
    """What a job reads."""

    @property
    def meta(self) -> pd.DataFrame:
        """An empty frame with the columns and dtypes of every piece."""

    @property
    def schema(self) -> pa.Schema | None:
        """The types on disk, None when the format has none."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces, in the order of the rows."""


def open_input(data: Data) -> Input:
    """Look at an input: files, columns, types. Reads no rows beyond the first ones.

    Raises
    ------
    JobFileError
        When there are no files, they cannot be read, one is compressed, or a column is not there.
    """
    check_store(data.path, data.place)
    try:
        files, base = _stored(data, data.path) if isinstance(data.path, StorePath) else _local(data, data.path)
        for file in files:
            if (packing := _PACKED.get(PurePosixPath(file.path).suffix.lower())) is not None:
                msg = f"{file} is compressed ({packing}), and files are read as they are: unpack it, or leave it out."
                raise data.place.error(msg)
        if data.format == "parquet":
            return ParquetInput.open(files, base, data)
        return JsonLines.open(files, data) if data.format == "jsonl" else CsvLines.open(files, data)
    except JobFileError:
        raise
    except (CuratorLLMError, OSError) as error:
        raise data.place.error(str(error)) from None


def _local(data: Data, path: Path) -> tuple[tuple[StoredFile, ...], str]:
    """Return the files in natural order (part.2 before part.10), and the directory below which they lie."""
    if path.exists():
        files = _in_directory(path, data.format) if path.is_dir() else [path]
        base = path if path.is_dir() else path.parent
    else:
        base = next((parent for parent in path.parents if not glob.has_magic(str(parent))), path.parent)
        matches = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207  Path.glob takes no absolute pattern
        matches = [match for match in matches if not _is_hidden(match, base) or _is_hidden(path, base)]
        nested = [_in_directory(found, data.format) if found.is_dir() else [found] for found in matches]
        files = [file for some in nested for file in some]
    if not files:
        what = _nothing_in(data) if path.is_dir() else "no such file"
        msg = f"{path}: {what}. Relative paths start at the current directory, {Path.cwd()}."
        raise data.place.error(msg)
    return _in_order(LocalFileSystem(), map(str, files)), str(base)


def _stored(data: Data, location: StorePath) -> tuple[tuple[StoredFile, ...], str]:
    """Return the same of a store."""
    fs, path = location.fs, location.path
    pattern = PurePosixPath(path)
    base = next((parent for parent in pattern.parents if not glob.has_magic(str(parent))), pattern)
    with reached(location):
        fs.invalidate_cache()
        matches = sorted(fs.glob(path)) if glob.has_magic(path) and not fs.exists(path) else [path]
        if not _is_hidden(pattern, base):
            matches = [match for match in matches if not _is_hidden(PurePosixPath(match), base)]
        kinds = {match: fs.info(match)["type"] for match in matches}
        nested = {match: fs.find(match) for match, kind in kinds.items() if kind == "directory"}
    files = [match for match in matches if match not in nested]
    for directory, found in nested.items():
        files += [file for file in found if _is_data(PurePosixPath(file), PurePosixPath(directory), data.format)]
    if not files:
        msg = f"{location}: {_nothing_in(data) if nested else 'no such file'}."
        raise data.place.error(msg)
    return _in_order(fs, files), path if path in nested else str(base)


def _in_order(fs: Any, files: Iterable[str]) -> tuple[StoredFile, ...]:
    return tuple(StoredFile(fs, file) for file in sorted(set(files), key=natural_sort_key))


def _nothing_in(data: Data) -> str:
    return f"no {' or '.join(_SUFFIXES[data.format])} files in it"


def _in_directory(directory: Path, kind: str) -> list[Path]:
    """Return the data files below a directory."""
    return [file for file in directory.rglob("*") if _is_data(file, directory, kind) and file.is_file()]


def _is_data(file: PurePath, directory: PurePath, kind: str) -> bool:
    """Say whether a file below a directory is meant to be read; compressed ones are, and refused."""
    plain = PurePath(file.stem) if file.suffix.lower() in _PACKED else file
    return plain.suffix.lower() in _SUFFIXES[kind] and not _is_hidden(file, directory)


def _is_hidden(file: PurePath, directory: PurePath) -> bool:
    """Say whether a name below a directory starts with _ or . and so is no data, unless it is asked for."""
    return any(part.startswith(("_", ".")) for part in file.parts[len(directory.parts) :])
