"""Whether a cluster can do what is asked of it, before anything is sent: two questions to all of its processes.

Who does not answer in time is not waited for, and nothing fails because it could not be asked: the work itself tells.
Keys are looked for on the workers; that one is missing comes back, the keys do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from distributed import Client, Worker

from curator_llm import __version__
from curator_llm.engine.credentials import resolve
from curator_llm.errors import AuthenticationError, JournalError, RunError
from curator_llm.journal.place_id import place_id
from curator_llm.journal.segment import segments_of
from curator_llm.spec.endpoint import Endpoint
from curator_llm.spec.secrets import SecretRef

log = logging.getLogger("distributed.curator_llm")

_PACKAGE = "curator_llm"
_COMPARED = (_PACKAGE, "dask", "distributed", "python")
#: So long a job, which begins once, waits for answers; and a stage on a Dask frame, while a user looks on.
_JOB_S = 15.0
_STAGE_S = 1.0
#: So long a worker tries, for each of the things it is asked.
_TRY_S = 5.0
_LOOK_S = 0.2
#: So many processes are named.
_NAMED = 3

Say = Callable[[str], object]
Found = dict[str, Any]


def check_for_job(client: Client, endpoints: Iterable[Endpoint], journal: Path, say: Say) -> None:
    """Check the cluster of a job: versions, keys, journal; say which endpoint cannot be connected to.

    Sends no request: a connection to an endpoint is opened and closed.

    Parameters
    ----------
    client : distributed.Client
    endpoints : iterable of Endpoint
    journal : Path
        Its directory; made if need be.
    say : callable
        Takes warnings.

    Raises
    ------
    RunError
        When the scheduler or a worker has no curator_llm.
    AuthenticationError
        When a worker does not find a key, and the journal is empty; else that is said.
    JournalError
        When a worker does not see the journal.
    """
    check_versions(client, say, _JOB_S)
    asked = tuple(endpoints)
    origins = [origin for endpoint in asked if not endpoint.proxy for origin in endpoint.origins]
    addresses = {origin: _host_and_port(origin) for origin in origins}
    with contextlib.suppress(OSError):  # the engine says what is wrong with it
        journal.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = place_id(journal)
    about = {"references": _references(asked), "journal": str(journal), "addresses": addresses}
    found = _ask_workers(client, time.monotonic() + _JOB_S, **about)
    if missing := _by_reference(found):
        if not any(segments_of(journal)):
            raise AuthenticationError(_no_key(missing))
        say(_no_key(missing))  # a run whose replies are all there needs none
    if strangers := [worker for worker, answer in found.items() if seen and answer["journal"] != seen]:
        msg = (
            f"{_named(strangers)} not see the journal in {journal}: give the job a `run_dir` on a file system that all "
            "workers share, by one path."
        )
        raise JournalError(msg)
    for worker, answer in found.items():
        for origin, why in answer["unreachable"].items():
            say(f"{origin} does not answer {worker} ({why}): the run goes on trying for a minute.")


_checked: WeakKeyDictionary[Client, set[str]] = WeakKeyDictionary()


def check_for_stage(client: Client, endpoint: Endpoint) -> None:
    """Check the cluster of a client, once, and log which keys its workers lack, once for each endpoint's.

    Takes a second at most. Does nothing on an asynchronous client, which cannot wait. Functions that give keys are not
    called before a row needs one.

    Raises
    ------
    RunError
        When the scheduler or a worker has no curator_llm: no frame with a stage can be computed there.
    """
    if client.asynchronous:
        return
    until = time.monotonic() + _STAGE_S
    if client not in _checked:
        check_versions(client, log.warning, _STAGE_S)
        _checked[client] = set()
    references = [name for name in _references([endpoint]) if not name.startswith("callable:")]
    if new := [name for name in references if name not in _checked[client]]:
        _checked[client].update(new)
        found = _ask_workers(client, until, references=new, journal=None, addresses={})
        if missing := _by_reference(found):
            log.warning("%s", _no_key(missing))


def check_versions(client: Client, say: Say, timeout_s: float) -> None:
    """Check that the whole cluster has this package, and say what else is of another version than here.

    Raises
    ------
    RunError
        When the scheduler or a worker has no curator_llm.
    """
    until = time.monotonic() + timeout_s
    versions = _ask(client, until, lambda: client.get_versions(packages=[_PACKAGE]))
    if not versions:
        return
    here = versions["client"]["packages"] | {_PACKAGE: __version__}
    there = {"the scheduler": versions["scheduler"]} | (versions["workers"] or {})
    packages = {process: answer["packages"] for process, answer in there.items() if answer}
    if unknown := [process for process, found in packages.items() if found.get(_PACKAGE) is None]:
        lacking = _lacking(client, unknown, until)
        if lacking:
            msg = (
                f"{_named(lacking)} not have curator_llm: run `pip install curator-llm=={__version__}` there, "
                "and start again what was started without it."
            )
            raise RunError(msg)
    differences = [
        f"{package} {here[package]} here, {version} on {', '.join(processes[:_NAMED])}"
        + (f" and {len(processes) - _NAMED} more" if len(processes) > _NAMED else "")
        for package in _COMPARED
        for version, processes in _by_version(packages, package).items()
        if version != here[package]
    ]
    if differences:
        say(f"The cluster has other versions than this process: {'; '.join(differences)}. Install the same everywhere.")


def _lacking(client: Client, processes: Sequence[str], until: float) -> list[str]:
    """Return those that cannot import the package: one that is not installed may be on the path."""
    workers = [process for process in processes if process != "the scheduler"]
    lacking = []
    if len(workers) < len(processes):

        async def find_there() -> Any:
            try:
                return await client.run_on_scheduler(importlib.util.find_spec, _PACKAGE)
            except ModuleNotFoundError:
                return None

        if _ask(client, until, find_there, default=True) is None:
            lacking.append("the scheduler")
    if workers:
        found = _ask(
            client,
            until,
            lambda: client.run(importlib.util.find_spec, _PACKAGE, workers=workers, on_error="return"),
            default={},
        )
        lacking += [worker for worker, spec in found.items() if spec is None or isinstance(spec, ModuleNotFoundError)]
    return lacking


def _by_version(packages: Mapping[str, Mapping[str, str | None]], package: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for process, versions in packages.items():
        if (version := versions.get(package)) is not None:
            found.setdefault(version, []).append(process)
    return found


def _ask(client: Client, until: float, question: Callable[[], Any], default: Any = None) -> Any:
    async def ask() -> Any:
        # on the client's own loop its methods are coroutines, which a timeout can end
        return await asyncio.wait_for(question(), until - time.monotonic())

    try:
        return client.sync(ask)
    except Exception:  # noqa: BLE001  whatever keeps it from answering, the work itself will tell
        return default


def _ask_workers(client: Client, until: float, **about: Any) -> dict[str, Found]:
    """Return what each worker found, by its address; one of them connects, for all."""
    connects = next(iter(client.scheduler_info()["workers"]), None)
    about |= {"connects": connects}
    answers = _ask(client, until, lambda: client.run(_look, **about, on_error="return"), default={})
    return {worker: found for worker, found in answers.items() if isinstance(found, dict)}


async def _look(
    references: Sequence[str],
    journal: str | None,
    addresses: Mapping[str, tuple[str, int]],
    connects: str,
    dask_worker: Worker,
) -> Found:
    """Look, on a worker, for all that is asked, at once."""
    reached = [_connect(*address) for address in addresses.values()] if dask_worker.address == connects else []
    found, seen, *refused = await asyncio.gather(
        asyncio.gather(*(_in_time(asyncio.to_thread(_is_there, name), default=True) for name in references)),
        _in_time(_place(journal), default=None),
        *reached,
    )
    return {
        "missing": [name for name, is_there in zip(references, found, strict=True) if not is_there],
        "journal": seen,
        "unreachable": {name: why for name, why in zip(addresses, refused, strict=False) if why is not None},
    }


async def _in_time(work: Any, default: Any) -> Any:
    try:
        return await asyncio.wait_for(work, _TRY_S)
    except TimeoutError:
        return default


def _is_there(reference: str) -> bool:
    try:
        resolve(SecretRef.parse(reference, what="api_key"))
    except AuthenticationError:
        return False
    return True


async def _place(journal: str | None) -> str | None:
    """Return what tells the journal from every other; on a network file system a new directory is seen a bit later."""
    if journal is None:
        return None
    directory = Path(journal)
    until = asyncio.get_running_loop().time() + _TRY_S / 2
    while not await asyncio.to_thread(directory.is_dir):
        if asyncio.get_running_loop().time() > until:
            return None
        await asyncio.sleep(_LOOK_S)
    return await asyncio.to_thread(place_id, directory)


async def _connect(host: str, port: int) -> str | None:
    """Return why there is no connection, None if there is."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _TRY_S)
    except (OSError, TimeoutError, ValueError) as error:
        return type(error).__name__
    writer.close()
    return None


def _references(endpoints: Iterable[Endpoint]) -> list[str]:
    """Return where secrets are said to be found."""
    kinds = ("env:", "file:", "callable:")
    named = [value for endpoint in endpoints for value in [endpoint.api_key, *(endpoint.headers or {}).values()]]
    return list(dict.fromkeys(value for value in named if value is not None and value.startswith(kinds)))


def _host_and_port(origin: str) -> tuple[str, int]:
    parts = urlsplit(origin)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _by_reference(found: Mapping[str, Found]) -> dict[str, list[str]]:
    missing: dict[str, list[str]] = {}
    for worker, answer in found.items():
        for reference in answer["missing"]:
            missing.setdefault(reference, []).append(worker)
    return missing


def _no_key(missing: Mapping[str, Sequence[str]]) -> str:
    said = " ".join(f"{_named(workers)} not find a key at {reference}." for reference, workers in missing.items())
    return f"{said} Set the variable or put the file there on every worker, or pass another reference."


def _named(processes: Sequence[str]) -> str:
    """Return the beginning of a sentence about them, up to its "not"."""
    names = [name if name == "the scheduler" else f"worker {name}" for name in processes[:_NAMED]]
    more = len(processes) - len(names)
    subject = ", ".join([*names, f"{more} more"] if more else names)
    return f"{subject[0].upper()}{subject[1:]} {'does' if len(processes) == 1 else 'do'}"
