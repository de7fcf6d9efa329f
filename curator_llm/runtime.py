"""Which engine serves this process: one for local use, one per Dask ``Worker`` object.

This module covers the registry and its end: engines are closed at interpreter exit, and a forked child starts without
any (threads do not survive a fork, so the parent's engine is dead there).
"""

from __future__ import annotations

import atexit
import os
import threading

from curator_llm.engine.engine import Engine

_lock = threading.Lock()
_engines: dict[int | None, tuple[object, Engine]] = {}


def engine(owner: object = None) -> Engine:
    """Return the live engine of an owner, starting it if need be.

    Parameters
    ----------
    owner : object, optional
        A Dask ``Worker``; None for everything else in this process.
    """
    name = None if owner is None else id(owner)
    with _lock:
        found = _engines.get(name)
        if found is None or not found[1].alive:
            found = _engines[name] = (owner, Engine(name=str(getattr(owner, "name", "local"))))
        return found[1]


def close(owner: object = None, drain_s: float | None = None) -> None:
    """Close an owner's engine: nothing more is sent, what is in flight ends and is kept."""
    with _lock:
        found = _engines.pop(None if owner is None else id(owner), None)
    if found is not None:
        found[1].close(drain_s)


def engines() -> list[Engine]:
    """Return the engines of this process."""
    with _lock:
        return [engine for _, engine in _engines.values()]


def counts(*, of_workers: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Return the counts of the engines of Dask workers in this process, or of its own, by engine and scope."""
    with _lock:
        found = [engine for owner, engine in _engines.values() if (owner is not None) == of_workers]
    return {engine.incarnation: engine.counts() for engine in found}


def limits() -> dict[str, dict[str, float]]:
    """Return what endpoints ask for, by scope, of the engine that is this process's own."""
    with _lock:
        own = _engines.get(None)
    return {} if own is None else own[1].limits()


def snapshot() -> dict[str, float]:
    """Return the counts of all engines of this process."""
    total: dict[str, float] = {}
    for found in engines():
        for name, count in found.snapshot().items():
            total[name] = total.get(name, 0) + count
    return total


def _close_all() -> None:
    while _engines:
        _, found = _engines.popitem()[1]
        found.close()


def _forget_all() -> None:
    global _lock  # noqa: PLW0603  a lock that another thread held at the fork stays locked for ever
    _lock = threading.Lock()
    _engines.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
