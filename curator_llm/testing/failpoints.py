"""Failpoints: named places in the package where a test ends the process, as a kill or a power cut would.

The package knows nothing of them. `arm` wraps the function a failpoint names, in this process alone; so a process that
is not armed pays nothing, and none is armed but by a call of `arm`.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

#: What a process ends with that met its failpoint: the exit code of one that was killed with SIGKILL.
EXIT_CODE = 137


@dataclass(frozen=True)
class Failpoint:
    """A place where a process may end.

    Parameters
    ----------
    place : str
        ``module:function`` or ``module:Class.method``.
    when : {"before", "after", "within"}
        Of the call; ``within`` is after half of the bytes that it writes. Of a coroutine there is only a ``before``.
    of : str, optional
        Only calls with a path of this name count.
    """

    place: str
    when: Literal["before", "after", "within"]
    of: str | None = None

    def resolve(self) -> tuple[Any, str, Callable[..., Any]]:
        """Return what holds the function, the function's name there, and the function.

        Raises
        ------
        AttributeError, ImportError
            When the package has no such place any more.
        """
        module, _, path = self.place.partition(":")
        *owners, name = path.split(".")
        holder: Any = functools.reduce(getattr, owners, importlib.import_module(module))
        return holder, name, getattr(holder, name)


_PLACES = "curator_llm.job.data.output_place"

#: All failpoints, in the order in which a run comes by.
FAILPOINTS = {
    "before_send": Failpoint("curator_llm.engine.transport.pyreqwest:PyreqwestTransport.send", "before"),
    "before_reply_is_read": Failpoint("curator_llm.engine.transport.pyreqwest:PyreqwestTransport._read", "before"),
    "before_judge": Failpoint("curator_llm.engine.line:judge", "before"),
    "before_append": Failpoint("curator_llm.journal.store:Journal.append", "before"),
    "within_append": Failpoint("curator_llm.journal.segment:SegmentWriter._write", "within"),
    "after_append": Failpoint("curator_llm.journal.store:Journal.append", "after"),
    "before_delivery": Failpoint("curator_llm.engine.line:Line.deliver", "before"),
    "after_delivery": Failpoint("curator_llm.engine.line:Line.deliver", "after"),
    "before_sync": Failpoint("curator_llm.journal.segment:SegmentWriter.sync", "before"),
    "after_sync": Failpoint("curator_llm.journal.segment:SegmentWriter.sync", "after"),
    "before_roll": Failpoint("curator_llm.journal.store:Journal._seal", "before"),
    "before_index": Failpoint("curator_llm.journal.reader:write_index", "before"),
    "within_index": Failpoint("curator_llm.journal.index:seal", "before"),
    "after_roll": Failpoint("curator_llm.journal.store:Journal._seal", "after"),
    "before_manifest": Failpoint("curator_llm.job.run_directory:RunDirectory.begin", "before"),
    "before_part": Failpoint("curator_llm.job.data.outputs:write_part", "before"),
    "after_part": Failpoint("curator_llm.job.data.outputs:write_part", "after"),
    "before_output": Failpoint(f"{_PLACES}:LocalPlace.put_in_place", "before"),
    "before_rename": Failpoint(f"{_PLACES}:LocalPlace._record", "after"),
    "after_rename": Failpoint("pathlib:Path.rename", "after"),
    "after_output": Failpoint(f"{_PLACES}:LocalPlace.put_in_place", "after"),
    "before_report": Failpoint("curator_llm.job.run_directory:RunDirectory.finish", "before"),
    "after_report": Failpoint("curator_llm.job.run_directory:RunDirectory._write", "after", of="report.json"),
    "before_success": Failpoint("curator_llm.job.run_directory:RunDirectory._write", "before", of="_SUCCESS"),
    "after_success": Failpoint("curator_llm.job.run_directory:RunDirectory._write", "after", of="_SUCCESS"),
}


def arm(name: str, passing: int = 1) -> None:
    """End this process at a failpoint: at once, without any cleaning up, with `EXIT_CODE`.

    Parameters
    ----------
    name : str
        Out of `FAILPOINTS`.
    passing : int, default 1
        The n-th time that this process comes by.

    Raises
    ------
    KeyError
        When there is no such failpoint.

    Examples
    --------
    >>> arm("before_append", passing=3)  # doctest: +SKIP
    """
    point = FAILPOINTS[name]
    holder, attribute, function = point.resolve()
    passings = itertools.count(1)

    def is_met(arguments: tuple[Any, ...]) -> bool:
        names = [argument.name for argument in arguments if isinstance(argument, Path)]
        return (point.of is None or point.of in names) and next(passings) == passing

    @functools.wraps(function)
    def armed(*arguments: Any, **named: Any) -> Any:
        met = is_met(arguments)
        if met and point.when == "before":
            _end()
        if met and point.when == "within":
            _write_half(*arguments)
        result = function(*arguments, **named)
        if met:
            _end()
        return result

    setattr(holder, attribute, armed)


def _write_half(writer: Any, data: bytes) -> None:
    os.write(writer._file, data[: len(data) // 2])  # noqa: SLF001  a torn write has no public way
    _end()


def _end() -> None:
    os._exit(EXIT_CODE)
