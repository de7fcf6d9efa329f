"""One small table of HTML, for what notebooks show of our objects. Everything in it is escaped: it is data."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def html_table(title: str, rows: Iterable[tuple[object, ...]]) -> str:
    """Return a table with a title; the first cell of each row is its name.

    Examples
    --------
    >>> html_table("Endpoint", [("model", "<m>")])
    '<table><caption style="text-align:left">Endpoint</caption><tr><th style="text-align:left">model</th>\
<td style="text-align:left">&lt;m&gt;</td></tr></table>'
    """
    shown = "".join(f"<tr>{_cell('th', row[0])}{''.join(_cell('td', value) for value in row[1:])}</tr>" for row in rows)
    return f'<table><caption style="text-align:left">{escape(title)}</caption>{shown}</table>'


def _cell(kind: str, value: object) -> str:
    return f'<{kind} style="text-align:left">{escape(str(value))}</{kind}>'
