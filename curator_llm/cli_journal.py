"""The command line of journals: ``curator-llm journal stats``, ``compact``, ``forget`` and ``purge``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dask.utils import format_bytes

from curator_llm.terminal import say

if TYPE_CHECKING:
    from curator_llm.journal.contents import Contents
    from curator_llm.wire.exchange import Record

_DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path), required=False)
_DRY_RUN = click.option("--dry-run", "dry", is_flag=True, help="Count what would go; remove nothing.")
#: From so many on a row that has no reply costs more time in the journal than elsewhere.
_MANY_FILES = 200
_TITLES = ("model", "status", "requests", "attempts", "input tokens", "output tokens")


@click.group()
def journal() -> None:
    """See what a journal holds, and take replies out of it.

    DIRECTORY is a journal or the run directory of a job; without one it is the journal that stages use by default. What
    changes a journal needs it for itself: it refuses while a process writes there.
    """


@journal.command()
@_DIRECTORY
def stats(directory: Path | None) -> None:
    """Count what is in it, by model and status; also while runs write to it."""
    from curator_llm.journal.contents import contents

    path = _journal(directory)
    for line in _lines(path, contents(path)):
        say(line)


@journal.command()
@_DIRECTORY
def compact(directory: Path | None) -> None:
    """Make few files of many, without what no run reads again: answers and costs stay as they are."""
    from curator_llm.journal.upkeep import compact as compact_journal

    path = _journal(directory)
    done = compact_journal(path)
    say(
        f"{path}: {_count(done.segments_before, 'file')} became {done.segments:,}, {_count(done.removed, 'record')} of "
        f"no use went, {format_bytes(max(0, done.freed_bytes))} freed."
    )


@journal.command()
@_DIRECTORY
@click.option("--containing", metavar="TEXT", help="Whose reply, or error, contains this text.")
@click.option("--model", metavar="NAME", help="Which this model answered, as the server calls it.")
@click.option("--status", metavar="STATUS", help="Which ended so: ok, truncated, rejected, ...")
@click.option("--run", "run_name", metavar="NAME", help="For which this run paid (its name stands in manifest.json).")
@click.option("--key", metavar="HEX", help="Of the request with this key.")
@_DRY_RUN
def forget(directory: Path | None, dry: bool, **asked: str | None) -> None:
    """Remove replies: those for which all the options hold. Their rows are asked again when they are needed.

    Replies to given rows are removed in Python: stage.forget(df).
    """
    given = {name: text for name, text in asked.items() if text is not None}
    if not given:
        msg = "Say which replies: --containing, --model, --status, --run or --key. All of them: remove the directory."
        raise click.UsageError(msg)
    _remove(_journal(directory), lambda record: all(_HOLDS[name](record, text) for name, text in given.items()), dry)


@journal.command()
@_DIRECTORY
@click.option("--older-than", "age", metavar="AGE", required=True, help="Such as 30d, 12h.")
@_DRY_RUN
def purge(directory: Path | None, age: str, dry: bool) -> None:
    """Remove replies that came longer than AGE ago. Their rows are asked again when they are needed."""
    from curator_llm.config import parse_duration

    oldest = time.time() - parse_duration(age, "--older-than")
    _remove(_journal(directory), lambda record: record.at < oldest, dry)


def _contains(record: Record, text: str) -> bool:
    return text in _words(record.reply)


_HOLDS: dict[str, Callable[[Record, str], bool]] = {
    "containing": _contains,
    "model": lambda record, text: record.model == text,
    "status": lambda record, text: record.status == text,
    "run_name": lambda record, text: record.run is not None and (record.run + "/").startswith(text + "/"),
    "key": lambda record, text: record.key == text.lower(),
}


def _words(reply: Any) -> str:
    """Return the text of a reply as people know it, without JSON's escapes."""
    import msgspec

    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for part in pair for text in strings(part)]
        if isinstance(value, list):
            return [text for part in value for text in strings(part)]
        return [str(value)]

    return "\n".join(strings(msgspec.json.decode(reply)))


def _remove(path: Path, condition: Callable[[Record], bool], dry: bool) -> None:
    from curator_llm.journal.upkeep import remove

    done = remove(path, condition, dry=dry)
    of = f"{_count(done.removed, 'record')} of {done.removed + done.kept:,}"
    if dry:
        say(f"{path}: {of} would be removed.")
    else:
        say(f"{path}: {of} removed, {format_bytes(max(0, done.freed_bytes))} freed.")


def _journal(directory: Path | None) -> Path:
    if directory is None:
        from curator_llm.journal.store import default_directory

        return default_directory()
    below = directory / "journal"
    return below if (below / "FORMAT").is_file() else directory


def _lines(path: Path, counted: Contents) -> list[str]:
    lines = [f"{path}: {_count(counted.segments, 'file')}, {format_bytes(counted.size_bytes)}"]
    if counted.oldest_at is not None and counted.newest_at is not None:
        lines[0] += f", {_time(counted.oldest_at)} to {_time(counted.newest_at)}"
    lines.append(f"{_count(counted.records, 'record')}, {_count(counted.distinct, 'request')} with a reply")
    if twice := counted.final - counted.distinct:
        lines[1] += f", {twice:,} answered once more"
    if counted.damaged or counted.torn:
        lines.append(f"damaged lines: {counted.damaged:,}; files that end within a line: {counted.torn:,}")
    if counted.segments > _MANY_FILES:
        lines.append("so many files make lookups slow: `curator-llm journal compact` makes few of them")
    rows = [
        (model, status, *(f"{number:,}" for number in (s.requests, s.attempts, s.input_tokens, s.output_tokens)))
        for (model, status), s in sorted(counted.by.items())
    ]
    if rows:
        widths = [max(len(row[column]) for row in (_TITLES, *rows)) for column in range(len(_TITLES))]
        lines.append("")
        for row in (_TITLES, *rows):
            cells = [f"{cell:{'<' if column < 2 else '>'}{widths[column]}}" for column, cell in enumerate(row)]
            lines.append("  ".join(cells))
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
