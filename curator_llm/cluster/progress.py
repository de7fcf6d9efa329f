"""What the engines of a cluster do right now, asked from outside. For a progress line: it never holds up the work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from dataclasses import dataclass, field

from distributed import Client

from curator_llm import runtime

#: Of these a snapshot says how much there is, of all else how much there was since its engine started.
_LEVELS = frozenset({"in_flight", "limit", "backlog"})

Process = tuple[str, int]


@dataclass
class Progress:
    """Counts of all engines of a cluster since the first `look`, those of workers that are gone included.

    Parameters
    ----------
    client : distributed.Client
    timeout_s : float, default 5
        How long a look may take.

    Examples
    --------
    >>> Progress(client).look()["in_flight"]  # doctest: +SKIP
    256.0
    """

    client: Client
    timeout_s: float = 5.0
    _before: dict[Process, dict[str, float]] = field(default_factory=dict)
    _last: dict[Process, dict[str, float]] = field(default_factory=dict)
    _looked: bool = False

    def look(self) -> dict[str, float]:
        """Ask all workers; return counts by name: sent, done, statuses, tokens; in_flight, limit and backlog as of now.

        Workers that do not answer in time count with what they said last, and with nothing in flight.
        """
        answers = self._ask()
        if not self._looked:
            self._looked, self._before = True, answers
        self._last |= answers
        total: Counter[str] = Counter()
        for process, counts in self._last.items():
            before = self._before.get(process, {})
            for name, count in counts.items():
                if name not in _LEVELS:
                    total[name] += count - before.get(name, 0)  # type: ignore[assignment]  # counts are whole
                elif process in answers:
                    total[name] += count  # type: ignore[assignment]
        return dict(total)

    def _ask(self) -> dict[Process, dict[str, float]]:
        async def ask() -> dict[str, tuple[Process, dict[str, float]]]:
            # on the client's own loop `run` is a coroutine, which a timeout can end
            return await asyncio.wait_for(self.client.run(_engines_here, on_error="ignore"), self.timeout_s)

        answers: dict[str, tuple[Process, dict[str, float]]] = {}
        with contextlib.suppress(Exception):
            answers = self.client.sync(ask)
        return dict(answers.values())  # workers that share a process share its engines


def _engines_here() -> tuple[Process, dict[str, float]]:
    return (socket.gethostname(), os.getpid()), runtime.snapshot()
