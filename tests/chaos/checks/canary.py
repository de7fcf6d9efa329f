"""R20: a key in every way it can be supplied, a server that says it back, and every place it could come to."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import dask.dataframe as dd
import httpx2
import openai
import pandas as pd
import yaml
from click.testing import CliRunner
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.cli import main
from curator_llm.errors import CuratorLLMError
from tests.chaos import places
from tests.chaos.echoes import ADDRESS, KEY, echo_server, needles, ways
from tests.chaos.frames import texts
from tests.chaos.places import Place
from tests.chaos.scorecard import Figure, Setting

ID = "R20"
TITLE = "A key in every place it could come to"
IN_TESTS = True

#: A prompt begins with the status it gets.
ANSWERED = ["200 a", "200 b", "400 c", "503 d", "422 e", "200 f"]
REFUSED = ["401 a", "401 b"]
REDIRECTED = ["307 a", "307 b"]

#: Ways of the small form.
FEW = ("SDK client", "env", "broken factory", "header and a missing key", "header", "client of NeMo Curator")


class Search:
    """Hits by place."""

    def __init__(self, secret: str) -> None:
        self._needles = needles(secret)
        self.hits: Counter[str] = Counter()
        self.where: list[str] = []
        self.searched = 0
        self.answered: set[str] = set()

    def look(self, way: str, found: Iterable[Place]) -> None:
        """Search through places."""
        for name, data in found:
            self.searched += len(data)
            if name == "columns":
                self.answered.add(way)
            hits = sum(data.count(needle) for needle in self._needles)
            self.hits[name] += hits
            if hits:
                self.where.append(f"{way}: {name}")


def figures(setting: Setting) -> Iterator[Figure]:
    """Run with each way to supply a key, here and on a cluster, and search."""
    secret = f"sk-CANARY-{uuid.UUID(int=setting.seed * 0x5DEECE66D << 64)}+/="
    search = Search(secret)
    control = Search(secret)
    control.look("control", places.of_exception(_raised_by_the_sdk(secret)))
    yield Figure("control: hits in an exception of the SDK", sum(control.hits.values()), at_least=1)
    (setting.scratch / "vault").mkdir()
    file = setting.scratch / "vault" / "key"
    file.write_text(secret)
    kept = setting.scratch / "kept"
    kept.mkdir()
    with echo_server(secret) as address, _surroundings(secret, address, kept):
        supplied = ways(address, file)
        del secret  # locals of this function stand in tracebacks
        here, there = (FEW, FEW[:3]) if setting.small else (tuple(supplied), FEW)
        for way in here:
            prompts = (ANSWERED, REFUSED) if setting.small else (ANSWERED, REFUSED, REDIRECTED)
            search.look(way, _here(Endpoint("m", name=way, **supplied[way]), prompts, kept))
        for processes in (False,) if setting.small else (False, True):
            search.look("cluster", _cluster({way: supplied[way] for way in there}, kept, processes=processes))
        if not setting.small:
            search.look("job", _jobs(supplied, kept))
            search.look("notebook", _notebook(supplied["env"], kept))
        search.look("files", places.of_files("journals, logs and all other files", kept))
    for name, hits in sorted(search.hits.items()):
        yield Figure(f"hits in {name}", hits, equals=0)
    if search.where:
        sys.stderr.write("\n".join(sorted(set(search.where))) + "\n")
    yield Figure("places", len(search.hits), at_least=18)
    yield Figure("ways to supply a key", len(here), at_least=6)
    answered = sum("broken" in way or "missing" in way or way in search.answered for way in here)
    yield Figure("ways not answered that should be", len(here) - answered, equals=0)
    yield Figure("megabytes searched", search.searched / 1e6)


def _here(endpoint: Endpoint, asked: Iterable[Sequence[str]], kept: Path) -> Iterator[Place]:
    """Ask on a pandas frame."""
    stage = _stage(endpoint, kept)
    yield from places.of_object("endpoint", endpoint)
    yield from places.of_object("stage", stage)
    yield "endpoint: dask token", repr((endpoint.identity, endpoint.limits, endpoint.address)).encode()
    for prompts in asked:
        spoken = io.StringIO()
        with contextlib.redirect_stderr(spoken), contextlib.redirect_stdout(spoken):
            out, error = _asked(stage, texts(prompts))
        yield "stderr and stdout", spoken.getvalue().encode()
        if error is not None:
            yield from places.of_exception(error)
        else:
            yield "columns", out.to_csv().encode()
            yield "columns: _repr_html_", out._repr_html_().encode()
            yield from places.of_object("summary", out.llm.summary())
    yield "faulthandler", places.fault_dump()


def _cluster(supplied: dict[str, dict[str, Any]], kept: Path, *, processes: bool) -> Iterator[Place]:
    """Ask on a cluster, of threads or of processes."""
    asked: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(processes=processes, **asked) as cluster, Client(cluster) as client:
        if processes:
            client.run(_log_all, str(kept / "worker.log"))
        erred = []  # kept, so that the scheduler keeps their exceptions
        for way, arguments in supplied.items():
            stage = _stage(Endpoint("m", name=f"{way}, cluster", **arguments), kept)
            for prompts in (ANSWERED, REFUSED):
                ddf = stage(dd.from_pandas(texts(prompts), npartitions=2))
                yield from places.of_graph(ddf)
                future = client.compute(ddf)
                error = future.exception()
                if error is None:
                    yield "columns", future.result().to_csv().encode()
                else:
                    erred.append(future)
                    yield from places.of_exception(error)
                    yield "cluster: future", repr((future, future.traceback())).encode()
        if processes:
            yield from places.of_command_lines([*client.run(os.getpid).values(), os.getpid()])
        yield from places.of_cluster(client, cluster.scheduler, kept)
        del erred


def _jobs(supplied: dict[str, dict[str, Any]], kept: Path) -> Iterator[Place]:
    """Run jobs from the command line, one that is answered and others that are refused, and all that tells of them."""
    for way, prompts in (("env", ANSWERED), ("env", REFUSED), ("SDK client", REFUSED)):
        place = kept / f"job {way} {prompts[0]}".replace(" ", "-")
        place.mkdir()
        texts(prompts).to_parquet(place / "docs.parquet")
        file, run = place / "job.yaml", place / "run"
        job = {
            "version": 1,
            "run_dir": str(run),
            "input": {"parquet": str(place / "docs.parquet")},
            "output": {"parquet": str(place / "out")},
            "endpoints": {"m": {"model": "m", **supplied[way]}},
            "stages": [{"query_model": {"endpoint": "m", "prompt": "{text}", "output": "a"}}],
            "cluster": {"n_workers": 1},
        }
        file.write_text(yaml.safe_dump(job))
        yield from _run(run, "run", str(file))
        if prompts == ANSWERED:
            yield from _run(run, "retry", str(run), "--status", "rejected")
        yield from _told("check", str(file))
        for command in ("report", "verify"):
            yield from _told(command, str(run))
        yield from _told("journal", "stats", str(run / "journal"))


def _run(run: Path, *command: str) -> Iterator[Place]:
    """Run a job in a process of its own, and look at it and its lease meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-m", "curator_llm", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while process.returncode is None:
        yield from places.of_command_lines([process.pid, *_children(process.pid)])
        yield from places.of_files("lease", run / "lease")
        with contextlib.suppress(subprocess.TimeoutExpired):
            yield f"command line: {command[0]}", process.communicate(timeout=0.3)[0]
    if process.returncode not in {0, 3, 4}:
        msg = f"{command} ended with {process.returncode}"
        raise AssertionError(msg)


def _told(*command: str) -> Iterator[Place]:
    told = CliRunner().invoke(main, command)
    if told.exit_code == 2 or not isinstance(told.exception, SystemExit | None):
        msg = f"{command}: {told.output}"
        raise AssertionError(msg)
    yield f"command line: {command[0]}", told.output.encode()


def _children(process: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *_children(child)]
    return found


def _notebook(arguments: dict[str, Any], kept: Path) -> Iterator[Place]:
    """Show everything in a notebook, and raise there."""
    import nbformat
    from nbclient import NotebookClient

    start = (
        "import pandas as pd, dask.dataframe as dd",
        "from curator_llm import Endpoint, QueryModel",
        f"endpoint = Endpoint('m', name='notebook', **{arguments!r})",
        "stage = QueryModel(endpoint, prompt='{text}', output='a')",
        f"answered, refused = (pd.DataFrame({{'text': prompts}}) for prompts in ({ANSWERED!r}, {REFUSED!r}))",
    )
    cells = ["\n".join(start), "endpoint", "stage", "out = stage(answered)\nout", "out.llm.summary()"]
    cells += ["dd.from_pandas(out, npartitions=1)", "%xmode Verbose", "stage(refused)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(kept)}})
    client.execute()
    shown = nbformat.writes(notebook)
    if "AuthenticationError" not in shown or "summary" not in shown:
        msg = f"the notebook did not come to its end: {shown[-2000:]}"
        raise AssertionError(msg)
    yield "notebook", shown.encode()


def _stage(endpoint: Endpoint, kept: Path) -> QueryModel:
    return QueryModel(endpoint, prompt="{text}", output="a", details=True, journal=kept / "journal")


def _asked(stage: QueryModel, frame: pd.DataFrame) -> tuple[Any, BaseException | None]:
    try:
        return stage(frame), None
    except CuratorLLMError as error:
        return None, error


def _raised_by_the_sdk(secret: str) -> BaseException:
    request = httpx2.Request("POST", "http://127.0.0.1/v1", headers={"authorization": f"Bearer {secret}"})
    return openai.APIConnectionError(request=request)


def _log_all(path: str) -> None:
    places.log_all(Path(path))


@contextlib.contextmanager
def _surroundings(secret: str, address: str, kept: Path) -> Iterator[None]:
    """Set what the ways read, log everything, and leave nothing behind."""
    variables = {KEY: secret, ADDRESS: address, "PYTHONPATH": str(Path(__file__).parents[3])}
    settings = {"curator-llm.engine.unreachable-after": "300ms", "curator-llm.journal.path": str(kept / "journal")}
    runtime.close()
    with mock.patch.dict(os.environ, variables), dask.config.set(settings), places.all_logged(kept / "here.log"):
        try:
            yield
        finally:
            runtime.close()
