"""The bar of a run on a pandas frame: on a terminal and in notebooks, from the second second on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from curator_llm import config

#: Short runs have their two lines, and need no bar.
_DELAY_S = 1.0

Show = Callable[[int, str], None]


@contextmanager
def rows_bar(output: str, total: int) -> Iterator[Show]:
    """Show how many of `total` rows are answered while the context is open.

    Parameters
    ----------
    output : str
        The stage's output column.
    total : int
        Rows that wait for a reply.

    Yields
    ------
    callable
        Takes the number of answered rows, and a note such as the price so far.
    """
    if not is_wanted():
        yield lambda _done, _note: None
        return
    looks: dict[str, Any] = {"leave": False, "delay": _DELAY_S, "mininterval": 0, "dynamic_ncols": True}
    with _tqdm()(total=total, desc=output, unit=" rows", file=sys.stderr, **looks) as bar:

        def show(done: int, note: str) -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        yield show


def is_wanted() -> bool:
    """Tell whether somebody looks: ``curator-llm.progress``, else on a terminal and in a notebook."""
    wanted = config.get("progress")
    if wanted is not None:
        return bool(wanted)
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Tell whether this is the kernel of a notebook."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets a notebook has the plain bar, and no need to be told
        from tqdm.auto import tqdm
    return tqdm
