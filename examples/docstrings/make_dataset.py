"""Make a dataset of real English text out of what is installed anyway: the docstrings of four packages.

Writes ``docs.parquet`` (all of them) and ``sample.parquet`` (a few, spread over all, cut to a length that a small model
copes with). Both have the columns ``id`` (the public name), ``package``, ``kind`` and ``text``, in the order of ``id``.
The packages are imported and looked at; nothing of them is called.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import logging
import pkgutil
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd

PACKAGES = ("numpy", "pandas", "dask", "distributed")  # Dask repeats texts of the first two: the original counts
NOT_PUBLIC = {"tests", "testing", "conftest", "utils_test", "cli"}  # test code and programs
SHORTEST = 40  # characters; below this there is nothing to summarise
SAMPLE_LONGEST = 1_200  # characters, about 350 tokens
COPIED = re.compile(r"This docstring was copied from .*\s+Some inconsistencies with the Dask version may exist\.\s+")
SECTION = re.compile(r"\n\s*\w[\w ]*\n-{3,}\n")  # a numpydoc heading


class Doc(NamedTuple):
    """A row of the dataset."""

    id: str
    package: str
    kind: str
    text: str


def public_modules(package: str) -> Iterator[ModuleType]:
    """Yield a package and its public modules, parents first, without those that lack something to be imported."""
    pending = [package]
    while pending:
        name = pending.pop(0)
        try:
            module = importlib.import_module(name)
        except Exception:  # noqa: BLE001, S112  # whatever an optional part raises, it is not available here
            continue
        yield module
        found = sorted(info.name for info in pkgutil.iter_modules(vars(module).get("__path__", ())))
        pending += [f"{name}.{child}" for child in found if not child.startswith("_") and child not in NOT_PUBLIC]


def documented(owner: ModuleType | type, name: str, package: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (name, kind, object) for an owner's public members, and for the members of its classes."""
    of_class = inspect.isclass(owner)
    for attribute, member in sorted(vars(owner).items()):
        if attribute.startswith("_"):
            continue
        if isinstance(member, property | functools.cached_property):
            yield f"{name}.{attribute}", "property", member
            continue
        member = getattr(member, "__func__", member) if of_class else member  # noqa: PLW2901  # static, class methods
        home = getattr(member, "__module__", None) or package
        if not callable(member) or home.partition(".")[0] != package:
            continue
        if inspect.isclass(member):
            yield f"{name}.{attribute}", "class", member
            if not of_class:
                yield from documented(member, f"{name}.{attribute}", package)
        else:
            yield f"{name}.{attribute}", "method" if of_class else "function", member


def collect(package: str) -> Iterator[Doc]:
    """Yield the docstrings of a package, short names first."""
    for module in public_modules(package):
        members = documented(module, module.__name__, package)
        for name, kind, member in [(module.__name__, "module", module), *members]:
            text = inspect.cleandoc(member.__doc__) if isinstance(member.__doc__, str) else ""
            text = COPIED.sub("", text)
            if len(text) >= SHORTEST:
                yield Doc(name, package, kind, text)


def cut(text: str) -> str:
    """Return what a text says before its first section (Parameters, ...), up to the end of a word."""
    text = SECTION.split(text, maxsplit=1)[0]
    return text if len(text) <= SAMPLE_LONGEST else text[:SAMPLE_LONGEST].rsplit(maxsplit=1)[0]


def main() -> None:
    """Write both files and say what is in them."""
    parser = argparse.ArgumentParser(description="Make a dataset of the docstrings of installed packages.")
    parser.add_argument(
        "--output", type=Path, default=Path("build/docstrings"), help="directory (default: %(default)s)"
    )
    parser.add_argument("--sample", type=int, default=40, help="rows of sample.parquet (default: %(default)s)")
    arguments = parser.parse_args()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of these packages warn when they are imported,
        logging.disable()  # or advise to install something
        rows = [doc for package in PACKAGES for doc in collect(package)]
    docs = pd.DataFrame(rows, columns=list(Doc._fields), dtype="string[pyarrow]")
    docs = docs.drop_duplicates("text").drop_duplicates("id").sort_values("id", ignore_index=True)
    step = max(1, len(docs) // arguments.sample)
    sample = docs.iloc[step // 2 :: step].head(arguments.sample)
    sample = sample.assign(text=sample["text"].map(cut)).reset_index(drop=True)

    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, frame in (("docs", docs), ("sample", sample)):
        path = arguments.output / f"{name}.parquet"
        frame.to_parquet(path, index=False)
        counts = ", ".join(f"{package} {count:,}" for package, count in frame["package"].value_counts().items())
        print(f"{path}: {len(frame):,} rows ({counts})")


if __name__ == "__main__":
    main()
