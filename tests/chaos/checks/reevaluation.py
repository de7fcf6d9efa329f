"""R16: Dask runs a stage as often as it likes, and each row is paid for once."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import dask.dataframe as dd
import pandas as pd
from distributed import Client, LocalCluster

from curator_llm import Endpoint, QueryModel
from curator_llm.testing import FakeServer, answer_to
from tests.chaos.frames import CAP
from tests.chaos.scorecard import Figure, Setting

ID = "R16"
TITLE = "Dask evaluates a stage again, in ten ways"
IN_TESTS = True

#: Of so many rows that follow each other the last two ask the same. Partitions hold whole groups: two workers may both
#: pay for what they ask at the same moment.
GROUP = 5
HEAD = 3

Evaluation = Callable[[dd.DataFrame], pd.DataFrame]


def figures(setting: Setting) -> Iterator[Figure]:
    """Evaluate lazy frames in every usual way; on the workers of a cluster each way also comes first once."""
    rows, partitions = setting.size(small=100, full=600), setting.size(small=5, full=12)
    frame = pd.DataFrame({"n": range(rows, 0, -1), "text": [f"row {_asked(n)}" for n in range(rows)]})
    ddf = dd.from_pandas(frame, npartitions=partitions)
    with FakeServer() as server, _scheduler(small=setting.small):

        def asking(prompt: str) -> QueryModel:
            endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=CAP)
            journal = str(setting.scratch / "journal")
            return QueryModel(endpoint, prompt=prompt, output="a", generation={"temperature": 0}, journal=journal)

        stage = asking("{text}")
        lazy, without_meta = stage(ddf), ddf.map_partitions(stage)
        chained = ddf[ddf.n > 0].map_partitions(stage, meta=stage.meta(ddf))
        yield Figure("requests while graphs are built", server.ledger.requests, equals=0)
        ways = _evaluations(setting.scratch)
        outs = [evaluate(lazy) for evaluate in ways.values()] + [without_meta.compute(), chained.compute()]
        prompts = ["{text}"]
        for name, evaluate in [] if setting.small else ways.items():
            prompts.append(f"{{text}}, first by {name}")
            graph = asking(prompts[-1])(ddf)
            evaluate(graph)
            graph.compute()
        yield Figure("evaluations", len(outs) + 2 * len(prompts[1:]))
        paid = Counter(seen.prompt for seen in server.ledger.seen)
        expected = {prompt.format(text=text) for prompt in prompts for text in frame.text}
        yield Figure("rows that were not paid for exactly once", sum(paid[text] != 1 for text in expected), equals=0)
        yield Figure("requests beyond those", server.ledger.requests - len(expected), equals=0)
        right = dict(zip(frame.n, map(answer_to, frame.text), strict=True))
        yield Figure("evaluations with a wrong or lost row", sum(not _is_right(out, right) for out in outs), equals=0)


def _asked(row: int) -> int:
    return row - 1 if row % GROUP == GROUP - 1 else row


def _is_right(out: pd.DataFrame, right: dict[int, str]) -> bool:
    out = out.reset_index()
    return len(out) in {HEAD, len(right)} and out.n.is_unique and out.a.tolist() == [right[n] for n in out.n]


def _evaluations(directory: Path) -> dict[str, Evaluation]:
    """Return what people do with a lazy frame; each gives rows that can be checked."""

    def length(lazy: dd.DataFrame) -> pd.DataFrame:
        rows = len(lazy)
        return lazy.compute().head(rows)

    def to_parquet(lazy: dd.DataFrame) -> pd.DataFrame:
        lazy.to_parquet(directory / "out", overwrite=True)
        return pd.read_parquet(directory / "out")

    return {
        "head": lambda lazy: lazy.head(HEAD),
        "len": length,
        "compute": lambda lazy: lazy.compute(),
        "compute again": lambda lazy: lazy.compute(),
        "set_index": lambda lazy: lazy.set_index("n").compute(),
        "sort_values": lambda lazy: lazy.sort_values("a").compute(),
        "to_parquet": to_parquet,
        "persist": lambda lazy: lazy.persist().compute(),
        "repartition": lambda lazy: lazy.repartition(npartitions=2).compute(),
        "both at once": lambda lazy: dask.compute(lazy, lazy[["n", "a"]], lazy.a.count())[1],
    }


@contextmanager
def _scheduler(*, small: bool) -> Iterator[None]:
    """Use threads, or two workers with processes of their own."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="The inplace keyword", category=DeprecationWarning)  # Dask's shuffles
        if small:
            stack.enter_context(dask.config.set(scheduler="threads", num_workers=2))
        else:
            cluster = LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0")
            stack.enter_context(cluster)
            stack.enter_context(Client(cluster))
        yield
