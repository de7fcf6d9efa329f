"""What the command line prints: words of data, servers and files are shown there, and must not steer the terminal."""

from __future__ import annotations

import click


def say(text: object, *, err: bool = False) -> None:
    """Print a line, or several."""
    click.echo(plain(str(text)), err=err)


def plain(text: str) -> str:
    r"""Return a text with whatever is neither printable nor the end of a line written as an escape.

    Examples
    --------
    >>> plain("a\x1b[31mb\nc")
    'a\\x1b[31mb\nc'
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(kept if kept == "\n" or kept.isprintable() else _escape(kept) for kept in text)


def word(name: object) -> str:
    """Return a name as one word of a line: its line ends are escapes, too."""
    return plain(str(name)).replace("\n", "\\n")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
