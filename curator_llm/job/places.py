"""Reading a job file's values: what may stand where, and errors that name the file, the place and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curator_llm.errors import ConfigurationError, JobFileError
from curator_llm.spec.nearest import nearest


@dataclass(frozen=True)
class Place:
    """Where in a job file a value stands, for example ``stages[0].query_model``.

    Parameters
    ----------
    file : str
    name : str
        Empty for the whole file.

    Examples
    --------
    >>> (Place("job.yaml") / "stages")[0] / "query_model"
    Place(file='job.yaml', name='stages[0].query_model')
    """

    file: str
    name: str = ""

    def __truediv__(self, name: object) -> Place:
        return Place(self.file, f"{self.name}.{name}" if self.name else str(name))

    def __getitem__(self, index: int) -> Place:
        return Place(self.file, f"{self.name}[{index}]")

    def error(self, text: str) -> JobFileError:
        """Return the error for this place."""
        return JobFileError(f"{self.file}: {self.name}: {text}" if self.name else f"{self.file}: {text}")

    def caused(self, error: Exception) -> JobFileError:
        """Return the error for what a constructor said about the values at this place."""
        said = str(error) if isinstance(error, ConfigurationError) else f"a value has the wrong type ({error})."
        return self.error(said)

    def mapping(self, value: Any, known: Iterable[str], required: Sequence[str] = ()) -> dict[str, Any]:
        """Check names.

        Raises
        ------
        JobFileError
            When it is no mapping, has an unknown name, or lacks a required one.
        """
        known = list(known)
        if not isinstance(value, Mapping):
            msg = f"is {value!r}: give a mapping with {', '.join(f'`{name}`' for name in required or known)}."
            raise self.error(msg)
        for name in value:
            if name not in known:
                msg = f"unknown key {name!r}. {nearest(str(name), known)}"
                raise self.error(msg)
        for name in required:
            if value.get(name) is None:
                msg = f"`{name}` is missing."
                raise self.error(msg)
        return dict(value)

    def one_of(self, value: Mapping[str, Any], names: Sequence[str]) -> str:
        """Return the one of some names that is given.

        Raises
        ------
        JobFileError
            When none or several are.
        """
        given = [name for name in names if name in value]
        if len(given) != 1:
            found = " and ".join(f"`{name}`" for name in given) or "none of them"
            msg = f"give exactly one of {', '.join(f'`{name}`' for name in names)}; there is {found}."
            raise self.error(msg)
        return given[0]

    def text(self, value: Any, example: str) -> str:
        """Check that a value is text."""
        if not isinstance(value, str) or not value:
            msg = f"is {value!r}: give text such as {example!r}."
            raise self.error(msg)
        return value

    def texts(self, value: Any, example: str) -> tuple[str, ...]:
        """Check that a value is a list of texts."""
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            msg = f"is {value!r}: give a list such as {example}."
            raise self.error(msg)
        return tuple(value)

    def count(self, value: Any) -> int:
        """Check that a value is a whole number above 0."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"is {value!r}: give a whole number, 1 or more."
            raise self.error(msg)
        return value
