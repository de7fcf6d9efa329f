"""The `input` and `output` of a job file: a format, a place, and how it is read."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from curator_llm.job.data.storage import Location, StorePath, read_location
from curator_llm.job.places import Place

Format = Literal["parquet", "jsonl", "csv"]

_WRITTEN = ("parquet", "jsonl")
_READ = (*_WRITTEN, "csv")


@dataclass(frozen=True)
class Data:
    """Where rows come from or go to.

    Parameters
    ----------
    format : {"parquet", "jsonl", "csv"}
    path : Path or StorePath
        Absolute, or a URL with its options; of an input also a directory or a glob.
    place : Place
        For errors.
    columns : tuple of str, optional
        Of an input: which are read.
    delimiter : str, default ","
        Of CSV.
    as_text : tuple of str, optional
        Of CSV: columns that are text, whatever they look like.
    as_number : tuple of str, optional
        Of CSV and JSONL: columns that are decimal numbers, though the first ones may be whole.
    """

    format: Format
    path: Location
    place: Place
    columns: tuple[str, ...] | None = None
    delimiter: str = ","
    as_text: tuple[str, ...] = ()
    as_number: tuple[str, ...] = ()


def read_input(value: Any, place: Place) -> Data:
    """Read what a job file has as `input`.

    Raises
    ------
    JobFileError
        When it cannot be one.
    """
    given = place.mapping(value, [*_READ, "columns", "storage_options", "delimiter", "as_text", "as_number"])
    kind = place.one_of(given, _READ)
    for name, kinds in (("delimiter", ["csv"]), ("as_text", ["csv"]), ("as_number", ["csv", "jsonl"])):
        if name in given and kind not in kinds:
            msg = f"`{name}` is of {' and '.join(kinds)}; this input is {kind}."
            raise place.error(msg)
    delimiter = given.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        msg = f"is {delimiter!r}: give one ASCII character, such as ';' or \"\\t\" (in double quotes)."
        raise (place / "delimiter").error(msg)
    lists = {
        name: (place / name).texts(given[name], "[id, text]")
        for name in ("columns", "as_text", "as_number")
        if given.get(name) is not None
    }
    both = sorted(set(lists.get("as_text", ())) & set(lists.get("as_number", ())))
    if both:
        msg = f"`as_text` and `as_number` both name {both[0]!r}: leave one out."
        raise place.error(msg)
    return Data(cast("Format", kind), _location(given, kind, place), place / kind, delimiter=delimiter, **lists)


def read_output(value: Any, place: Place) -> Data:
    """Read what a job file has as `output`.

    Raises
    ------
    JobFileError
        When it cannot be one.
    """
    given = place.mapping(value, [*_READ, "storage_options"])
    if "csv" in given:
        msg = "CSV is read, not written: give `parquet` or `jsonl`."
        raise place.error(msg)
    kind = place.one_of(given, _WRITTEN)
    location = _location(given, kind, place)
    if isinstance(location, StorePath):
        url = location.url
        if "::" in url or glob.has_magic(url) or url.count("/") < len(("", "", "path")):
            msg = f"is {url!r}: give the URL of a directory or file below a bucket, without `::` and wildcards."
            raise (place / kind).error(msg)
    return Data(cast("Format", kind), location, place / kind)


def _location(given: Mapping[str, Any], kind: str, place: Place) -> Location:
    text = (place / kind).text(given[kind], f"docs.{kind}")
    return read_location(text, given.get("storage_options"), place / kind)
