"""R19: memory does not grow with the number of rows."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import dask
import dask.dataframe as dd
import pandas as pd

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.engine.transports import Transports
from curator_llm.wire.exchange import Fault, Reply, Request
from tests.chaos.scorecard import Figure, Setting

ID = "R19"
FEW, MANY = 100_000, 1_000_000
TITLE = f"Memory at {MANY:,} rows and at {FEW:,}, without sockets"
IN_TESTS = False

PARTITION = 2_500
MEGABYTE = 1e6

_REPLY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "An answer of some words."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15},
    }
).encode()


class NoServer:
    """A transport that answers at once."""

    key_version = 0
    has_spare = False

    def refresh_key(self, version: int) -> bool:
        """Have none."""
        return False

    def check(self, request: Request) -> None:
        """Refuse nothing."""

    async def send(self, request: Request) -> Reply | Fault:
        """Answer."""
        return Reply(200, {}, _REPLY, 0.0, "http://127.0.0.1:9")

    async def close(self) -> None:
        """Have nothing to close."""


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure in a process of its own for each number of rows."""
    few, many = (_measured(rows, setting.scratch / str(rows)) for rows in (FEW, MANY))
    yield Figure("rows answered", few["ok"] + many["ok"], equals=FEW + MANY)
    yield Figure("rows per second", many["rows"] / many["seconds"])
    for name, found in ((f"{FEW:,}", few), (f"{MANY:,}", many)):
        yield Figure(f"MB at the end of {name} rows", found["end"] / MEGABYTE)
    yield Figure(f"memory at {MANY:,} rows, of that at {FEW:,}", many["end"] / few["end"], at_most=1.1)
    yield Figure(
        "MB above what the program has before, at the most", (many["peak"] - many["base"]) / MEGABYTE, at_most=300
    )


def _measured(rows: int, journal: Path) -> dict[str, float]:
    command = [sys.executable, "-m", __name__, str(rows), str(journal)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def _partition(number: int) -> pd.DataFrame:
    texts = [f"A text of the length of a short sentence, of row {number * PARTITION + n}." for n in range(PARTITION)]
    return pd.DataFrame({"text": pd.array(texts, dtype="string[pyarrow]")})


def _status_bytes(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _ask(rows: int, journal: str) -> dict[str, float]:
    """Ask for so many rows on Dask's threads; return what memory this process had."""
    stage = QueryModel(
        Endpoint("m", base_url="http://127.0.0.1:9/v1"), prompt="Topic of {text}", output="a", journal=journal
    )
    stage(_partition(-1).head(100))  # all is imported, and the engine runs
    gc.collect()
    base, started = _status_bytes("VmRSS"), time.monotonic()
    lazy = stage(dd.from_map(_partition, range(rows // PARTITION), meta=_partition(0).iloc[:0]))
    good = lazy.map_partitions(lambda out: int((out["a__status"] == "ok").sum()), meta=(None, int))
    ok = int(good.compute(scheduler="threads", num_workers=2).sum())
    seconds = time.monotonic() - started
    gc.collect()
    memory = {"base": base, "end": _status_bytes("VmRSS"), "peak": _status_bytes("VmHWM")}
    return {"rows": rows, "ok": ok, "seconds": seconds, **memory}


if __name__ == "__main__":
    settings = {"curator-llm.progress": False}
    with patch.object(Transports, "_make", lambda *_: NoServer()), dask.config.set(settings):
        found = _ask(int(sys.argv[1]), sys.argv[2])
        runtime.close()
    print(json.dumps(found))
