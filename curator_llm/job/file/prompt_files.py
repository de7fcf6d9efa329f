"""Prompts in files of their own: read with the job, and kept in it as texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curator_llm.job.places import Place


def with_prompts(arguments: Any, place: Place) -> Any:
    """Return the arguments of a stage with the texts of `prompt_file` and `system_file` as `prompt` and `system`.

    Parameters
    ----------
    arguments : object
        As the job file has them; returned as they are when they are no mapping.
    place : Place

    Raises
    ------
    JobFileError
        When a file cannot be read, or the text is given as well.

    Notes
    -----
    UTF-8; a line break at the end of the file is the editor's, and not part of the text.
    """
    if not isinstance(arguments, dict):
        return arguments
    found = dict(arguments)
    for name in ("prompt", "system"):
        file = found.pop(f"{name}_file", None)
        if file is not None:
            if found.get(name) is not None:
                msg = f"`{name}` and `{name}_file` are both given: leave one out."
                raise place.error(msg)
            found[name] = _text(file, place / f"{name}_file")
    return found


def read_text(path: Path, place: Place) -> str:
    """Return the text of a file: UTF-8, without a byte order mark.

    Raises
    ------
    JobFileError
        When it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"cannot be read: {reason}." if path == Path(place.file) else f"{path} cannot be read: {reason}."
        raise place.error(msg) from None


def _text(file: Any, place: Place) -> str:
    path = Path.cwd() / Path(place.text(file, "prompts/topic.txt")).expanduser()
    return read_text(path, place).removesuffix("\n")
