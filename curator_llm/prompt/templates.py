"""Prompt templates: ``{column}`` names, ``{{`` and ``}}`` for braces, nothing else.

A column's value is never read as a template, so data cannot reach attributes, format specs or other columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curator_llm.errors import PromptError

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}%]")
_REFUSED_IN_NAMES = frozenset("\"'.[]!:\n\r\t\\")


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.

    Attributes
    ----------
    text : str
        As written.
    columns : tuple of str
        The columns it names, each once, in order of first use.
    """

    text: str
    columns: tuple[str, ...]
    _pattern: str
    _fields: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template.

        Raises
        ------
        PromptError
            For anything but ``{column}``; the message holds the template with its braces doubled.

        Examples
        --------
        >>> Template.parse("Topic of {title}: {{json}}").columns
        ('title',)
        """
        if not is_utf8(text):
            msg = "The prompt holds a lone surrogate, half of a character, which no request can carry: remove it."
            raise PromptError(msg)
        fields: list[str] = []

        def placeholder(piece: re.Match[str]) -> str:
            if piece[0] in {"%", "{{", "}}"}:
                return "%%" if piece[0] == "%" else piece[0][0]
            if piece[1] is None:
                raise _refusal(text, f"a single {piece[0]!r} stands at character {piece.start() + 1}")
            if not _is_name(piece[1]):
                raise _refusal(
                    text, f"{piece[0]} is not a column name (one with quotes or any of . [ ] ! : must be renamed)"
                )
            fields.append(piece[1])
            return "%s"

        pattern = _PIECE.sub(placeholder, text)
        return cls(text, tuple(dict.fromkeys(fields)), pattern, tuple(fields))

    def render(self, cells: Mapping[str, Sequence[str]], rows: int) -> list[str]:
        """Fill in `rows` rows at once; `cells` holds each column's texts."""
        if not self._fields:
            return [self._pattern % ()] * rows
        pattern = self._pattern
        return [pattern % row for row in zip(*(cells[name] for name in self._fields), strict=True)]


def is_utf8(text: str) -> bool:
    """Tell whether a text can be sent: lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_name(name: str) -> bool:
    return bool(name) and name == name.strip() and not name.isdigit() and _REFUSED_IN_NAMES.isdisjoint(name)


def _refusal(text: str, reason: str) -> PromptError:
    doubled = text.replace("{", "{{").replace("}", "}}")
    return PromptError(
        f"The prompt cannot be read: {reason}. Write {{column}} for a column's value and {{{{ }}}} for braces that "
        f"stay. With all braces doubled it reads:\n{doubled}"
    )
