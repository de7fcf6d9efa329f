"""Every place a secret could come to, as bytes to search through."""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import logging
import pickle
import re
import tempfile
import traceback
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

#: Loggers of libraries that speak of requests; some set levels of their own.
_SPEAKERS = ("openai", "httpx2", "httpcore2", "httpx", "httpcore", "pyreqwest", "distributed", "curator_llm")
_MOST_PAGES = 200

Place = tuple[str, bytes]


def of_object(name: str, value: object) -> Iterator[Place]:
    """Yield how an object travels and how it is shown."""
    yield f"{name}: pickle", pickle.dumps(value)
    yield f"{name}: cloudpickle", cloudpickle.dumps(value)
    yield f"{name}: str and repr", f"{value} {value!r}".encode()
    show = getattr(value, "_repr_html_", None)
    if show is not None:
        yield f"{name}: _repr_html_", str(show()).encode()


def of_exception(error: BaseException) -> Iterator[Place]:
    """Yield what an exception says, how Dask sends it, what it came from, and its traceback with all locals."""
    from distributed.core import error_message

    yield "exception: text", f"{error} {error!r} {vars(error)}".encode()
    sent = error_message(error)  # type: ignore[arg-type]
    yield "exception: as Dask sends it", b"".join(_bytes(value) for value in sent.values())
    chain: list[BaseException] = []
    _follow(error, chain)
    yield "exception: causes and contexts", "".join(f"{one!r} {vars(one)} {one.args}" for one in chain).encode()
    for one in chain:
        shown = traceback.TracebackException.from_exception(one, capture_locals=True)
        yield "exception: traceback with locals", "".join(shown.format()).encode()


def of_graph(ddf: Any) -> Iterator[Place]:
    """Yield a Dask frame as it is sent and shown."""
    yield from of_object("frame", ddf.expr)
    yield "frame: tree_repr", ddf.expr.tree_repr().encode()
    yield "frame: _repr_html_", ddf._repr_html_().encode()
    graph = ddf.optimize().__dask_graph__()
    yield "graph: cloudpickle", cloudpickle.dumps(dict(graph))
    yield "graph: repr", repr(dict(graph)).encode()


def of_cluster(client: Any, scheduler: Any, scratch: Path) -> Iterator[Place]:
    """Yield what a scheduler and its workers keep and show."""
    yield "cluster: events", repr(client.get_events()).encode()
    yield "cluster: worker logs", repr(client.get_worker_logs()).encode()
    yield "cluster: scheduler logs", repr(client.get_scheduler_logs()).encode()
    erred = [task for task in scheduler.tasks.values() if task.state == "erred"]
    for task in erred:
        parts = (task.exception, task.traceback, task.exception_text, task.traceback_text)
        yield "cluster: erred tasks of the scheduler", b"".join(map(_bytes, parts))
    yield "cluster: erred tasks of workers", repr(client.run(_erred_tasks)).encode()
    client.dump_cluster_state(str(scratch / "dump"))
    yield "cluster: dump", gzip.decompress((scratch / "dump.msgpack.gz").read_bytes())
    yield "cluster: faulthandler", repr(client.run(fault_dump)).encode()
    pages = {f"info/task/{urllib.request.quote(str(task.key), safe='')}.html" for task in erred}
    base = f"http://127.0.0.1:{scheduler.http_server.port}/"
    yield from _crawl(base, {"info/main/workers.html", "info/main/exceptions.html", "info/main/logs.html", *pages})


def _crawl(base: str, pages: set[str]) -> Iterator[Place]:
    """Fetch pages, and the pages they lead to."""
    wanted = [*pages, "json/counts.json", "json/identity.json", "metrics", "api/v1", "sitemap.json", "health"]
    seen: set[str] = set()
    while wanted and len(seen) < _MOST_PAGES:
        page = wanted.pop(0)
        if page in seen:
            continue
        seen.add(page)
        with contextlib.suppress(OSError), urllib.request.urlopen(base + page, timeout=10) as reply:
            text = reply.read()
            kind = "/info pages" if page.startswith("info") else "JSON routes and metrics"
            yield f"dashboard: {kind}", text
            for link in re.findall(rb'href="([^"#]*\.html)"', text):
                place = urllib.request.urljoin(base + page, link.decode())  # type: ignore[attr-defined]
                if place.startswith(base + "info/"):
                    wanted.append(place.removeprefix(base))


def fault_dump() -> bytes:
    """Return what faulthandler writes when a process dies."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def _erred_tasks(dask_worker: Any) -> list[tuple[str, ...]]:
    tasks = [task for task in dask_worker.state.tasks.values() if task.exception is not None]
    return [(repr(_bytes(t.exception)), repr(_bytes(t.traceback)), t.exception_text, t.traceback_text) for t in tasks]


def of_files(name: str, directory: Path) -> Iterator[Place]:
    """Yield all files below a directory, with their names."""
    for path in sorted(directory.rglob("*")):
        yield name, str(path.relative_to(directory)).encode()
        if path.is_file():
            yield name, path.read_bytes()


def of_command_lines(processes: Sequence[int]) -> Iterator[Place]:
    """Yield the command lines of processes that are there."""
    for process in processes:
        with contextlib.suppress(OSError):
            yield "command lines", Path(f"/proc/{process}/cmdline").read_bytes()


@contextlib.contextmanager
def all_logged(path: Path) -> Iterator[None]:
    """Write what any logger says into a file, from DEBUG on."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, _SPEAKERS)]
    before = [logger.level for logger in loggers]
    handler = log_all(path)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def log_all(path: Path) -> logging.Handler:
    """Start to write all logs of this process into a file."""
    handler = logging.FileHandler(path)
    root = logging.getLogger()
    root.addHandler(handler)
    for logger in (root, *map(logging.getLogger, _SPEAKERS)):
        logger.setLevel(logging.DEBUG)
    for name in ("distributed", "tornado"):
        logging.getLogger(name).addHandler(handler) if not logging.getLogger(name).propagate else None
    return handler


def _follow(error: BaseException | None, found: list[BaseException]) -> None:
    if error is not None and error not in found:
        found.append(error)
        _follow(error.__cause__, found)
        _follow(error.__context__, found)


def _bytes(value: Any) -> bytes:
    value = getattr(value, "data", value)
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
