"""Whether the workers of a cluster keep their replies in one place: each tells what it sees, the client compares.

A path says nothing: it is another directory on each host that does not share it. The journal's own ``ID`` tells.
"""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from curator_llm.journal.place_id import place_id

if TYPE_CHECKING:
    from distributed import Client

TOPIC = "curator-llm-journal"

log = logging.getLogger("distributed.curator_llm")

Event = dict[str, Any]


class ToldPlaces:
    """Tells clients, once for each stage and journal, which journal a worker sees. Thread-safe.

    Parameters
    ----------
    worker : distributed.Worker
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._told: set[tuple[str, Path]] = set()
        self._lock = threading.Lock()

    def tell(self, output: str, directory: Path | None) -> None:
        """Tell it, of the journal of a stage's replies that is open here."""
        if directory is None:
            return
        with self._lock:
            is_new = (output, directory) not in self._told
            self._told.add((output, directory))
        if is_new and (found := place_id(directory)):
            about = {"output": output, "path": str(directory), "id": found, "host": socket.gethostname()}
            self._worker.log_event(TOPIC, about)


class SeenPlaces:
    """What workers told a client, which is warned once when they do not share a journal."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, str]] = {}
        self._is_warned = False

    def hear(self, event: Event) -> None:
        """Take note of the journal a worker sees."""
        seen = self._seen.setdefault(event["output"], {})
        seen.setdefault(event["id"], f"{event['path']} on {event['host']}")
        if len(seen) > 1 and not self._is_warned:
            self._is_warned = True
            log.warning(
                "%s: workers do not share a journal: %s. Each keeps its own replies: a row that moves to another "
                "worker is paid for again, and so may be a rerun. Give `journal`, or the job's run_dir, a directory "
                "that all workers share.",
                event["output"],
                "; ".join(seen.values()),
            )


_clients: WeakKeyDictionary[Client, SeenPlaces] = WeakKeyDictionary()


def compare_journals(client: Client) -> None:
    """Warn when the workers of a client's cluster do not share a journal. Done once per client."""
    if client not in _clients:
        places = _clients[client] = SeenPlaces()
        client.subscribe_topic(TOPIC, lambda event: places.hear(event[1]))
