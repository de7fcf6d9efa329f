"""Journals that were written, and everything that can happen to their bytes afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from curator_llm.journal.record import decode, embed
from curator_llm.journal.store import Journal
from curator_llm.wire.exchange import Record

KEYS = [number.to_bytes(1, "big") * 16 for number in (0, 1, 127, 128, 255)]
#: What a journal answers: the final records of each key, the first one first.
Model = dict[bytes, list[Record]]
Harm = tuple[str, int, bytes, int]

_OF_BYTES = ("overwrite", "insert", "delete", "cut")
_OF_FILES = ("swap", "remove")
KINDS = (*_OF_BYTES, "flip", "zeros", "twice", "glue", *_OF_FILES)

written = st.lists(st.tuples(st.integers(0, len(KEYS) - 1), st.booleans()), max_size=6)
segments = st.lists(written, min_size=1, max_size=3)
#: What happens, to which byte or line, with which bytes, to which file.
harm = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=20) | st.just(b"\n"),
    st.integers(0, 9),
)
damage = st.lists(harm, min_size=1, max_size=4)


def fill(directory: Path, plan: list[list[tuple[int, bool]]]) -> Model:
    """Write the planned segments and return the final records of each key in order."""
    model: Model = {}
    for number, records in enumerate(plan):
        with Journal(directory) as journal:
            for place, (index, final) in enumerate(records):
                reply = embed(b'{"said":"%d.%d"}' % (number, place))
                record = Record(KEYS[index].hex(), "chat/1", "ok" if final else "failed", final, 1, 1.0, reply)
                journal.append([record])
                if final:
                    model.setdefault(KEYS[index], []).append(record)
    return model


def files_of(directory: Path, *folders: str) -> list[Path]:
    """Return the files in folders of a journal, in order."""
    return [path for folder in folders for path in sorted((directory / folder).iterdir())]


def hurt(files: list[Path], what: Harm) -> set[Path]:
    """Do something to one of some files, or to two of a kind; return those whose contents now stand elsewhere."""
    kind, place, data, number = what
    path = files[number % len(files)]
    if kind == "swap":
        other = next((other for other in files if other != path and other.parent == path.parent), path)
        contents = path.read_bytes(), other.read_bytes()
        other.write_bytes(contents[0])
        path.write_bytes(contents[1])
        return {path, other}
    if kind == "remove":
        path.write_bytes(b"")
        return set()
    path.write_bytes(_hurt(path.read_bytes(), kind, place, data))
    return set()


def _hurt(content: bytes, kind: str, place: int, data: bytes) -> bytes:
    place %= len(content) + 1
    before, after = content[:place], content[place:]
    lines = content.splitlines(keepends=True)
    line = place % max(1, len(lines))
    match kind:
        case "overwrite":
            return before + data + after[len(data) :]
        case "insert":
            return before + data + after
        case "delete":
            return before + after[len(data) :]
        case "cut":
            return before
        case "flip":
            return before + bytes(byte ^ 1 << data[0] % 8 for byte in after[:1]) + after[1:]
        case "zeros":
            return before + bytes(512) + after[512 * (data[0] % 2) :]
        case "twice":
            return b"".join([*lines[: line + 1], *lines[line:]])
        case _:  # glue
            return b"".join(
                [*lines[:line], *(glued.rstrip(b"\n") for glued in lines[line : line + 1]), *lines[line + 1 :]]
            )


def whole(directory: Path, model: Model) -> dict[bytes, Record]:
    """Return the first of the model's records of each key of which a whole line is left, read the plain way."""
    left: dict[bytes, Record] = {}
    for path in files_of(directory, "seg"):
        *lines, _ = path.read_bytes().split(b"\n")
        for line in lines:
            record = decode(line)
            key = bytes.fromhex(record.key) if record else b""
            if record in model.get(key, ()):
                left.setdefault(key, record)
    return left


def read_files(directory: Path) -> dict[str, bytes]:
    """Return what stands in the files of a journal, by their places."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def check(model: Model, files: Mapping[str, bytes], harms: list[Harm], directory: Path, *, indexed: bool) -> int:
    """Damage a journal, and check that it raises nothing, gives nothing wrong, and loses only what was touched.

    Parameters
    ----------
    model, files
        What was written, and how it lies there; a journal of them is made in an empty directory.

    Returns
    -------
    int
        How many records are lost.
    """
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
    before = Journal(directory)
    before.refresh()
    if not indexed:
        for path in files_of(directory, "idx"):
            path.unlink()
    moved: set[Path] = set()
    for what in harms:
        if hurtable := files_of(directory, "seg", "idx"):
            moved |= hurt(hurtable, what)
    left = whole(directory, model)
    for journal in (before, Journal(directory)):
        found = journal.lookup(KEYS)
        assert all(record in model[key] for key, record in found.items()), "a wrong value"
        if not any(path.parent.name == "seg" for path in moved):
            assert found.keys() >= left.keys(), "lost what nobody touched"
    return len(model) - len(left)
