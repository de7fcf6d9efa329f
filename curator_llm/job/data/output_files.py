"""Which files an output is made of: by name, with size and what changes when a file is written again.

The manifest of a run keeps this of what it wrote, so that it knows its own output again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.job.data.storage import Location, StorePath

#: Name below the output ("" for the output itself), and what is known of the file: `size` and `tag`.
Files = dict[str, dict[str, Any]]

#: What stores call the checksum of a file, or else the time when it was written.
_CHECKSUMS = ("ETag", "etag", "md5Hash", "crc32c", "blob_id", "mtime", "created")


def files_of(location: Location) -> Files:
    """Return the files of an output as they are now; none where nothing is.

    Parameters
    ----------
    location : Path or StorePath
        A file or a directory. The tag of a local file is the time of its last change in ns: a rename keeps it. Links
        are not followed.

    Raises
    ------
    ConfigurationError
        When a local directory cannot be listed.
    RunError
        When a store is not reached.
    """
    if isinstance(location, StorePath):
        return {name: {"size": info["size"], "tag": _checksum(info)} for name, info in location.files().items()}
    try:
        return {name: _of_local(location / name) for name in _names_below(location)}
    except OSError as error:
        msg = f"The output {location} cannot be listed ({error.strerror}): name another, or change permissions."
        raise ConfigurationError(msg) from None


def _checksum(info: dict[str, Any]) -> str | None:
    return next((str(info[key]) for key in _CHECKSUMS if info.get(key)), None)


def _of_local(path: Path) -> dict[str, Any]:
    stat = path.lstat()
    return {"size": stat.st_size, "tag": str(stat.st_mtime_ns)}


def _names_below(path: Path) -> list[str]:
    if path.is_symlink() or not path.is_dir():
        return [""] if os.path.lexists(path) else []

    def fail(error: OSError) -> None:
        raise error

    names = []
    for above, directories, files in os.walk(path, onerror=fail):
        links = [name for name in directories if (Path(above) / name).is_symlink()]
        names += [(Path(above) / name).relative_to(path).as_posix() for name in [*links, *files]]
    return names
