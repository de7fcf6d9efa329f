"""R10: replies that are slow, or huge, or never end; each attempt ends, memory stays flat, the loop goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from curator_llm import runtime
from curator_llm.testing import FakeServerProcess
from tests.chaos.frames import asking, texts
from tests.chaos.scorecard import Figure, Setting

ID = "R10"
TITLE = "Trickle, hang, a gzip bomb of 200 MB, chunks without end, JSON 100,000 deep"
IN_TESTS = True

MIB = 1 << 20
KINDS = {"trickle": "failed", "hang": "failed", "hang_after_headers": "failed", "gzip_bomb:200": "failed",
         "endless_chunked": "invalid", "deep_json:100000": "failed"}  # fmt: skip


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask for a good row, so that all is loaded; then for the others at once, and look at this process meanwhile."""
    rows, timeout_s = setting.size(small=1, full=4), setting.size(small=1, full=3)
    prompts = [f"{kind}: row {n}" for n in range(rows) for kind in KINDS] + [f"row {n}" for n in range(20)]
    # A reply may have 32 MiB, and each that is under way its own: one without end at a time.
    prompts = [prompt for prompt in prompts if "endless" not in prompt or prompt.endswith(" 0")]
    with FakeServerProcess(faults_named=True) as server:
        stage = asking(server, journal=setting.scratch / "journal", timeout=timeout_s, max_attempts=1)
        stage(texts(["first", "gzip_bomb:200: first"]))  # the server takes a while to make its bomb
        server.wait_until(lambda ledger: not ledger.in_flight)
        before_bytes = _peak_bytes(reset=True)
        with Watch() as watch:
            out = stage(texts(prompts))
        grown_bytes = _peak_bytes() - before_bytes
        ledger = server.read_ledger()
    ends = [KINDS.get(prompt.rpartition(": ")[0], "ok") for prompt in prompts]
    yield Figure("rows without the status they should have", sum(out["a__status"] != ends), equals=0)
    longest_s = max((seen.done_s or 0) - seen.at_s for seen in ledger.seen)
    over_s = longest_s - timeout_s
    yield Figure("seconds of the longest attempt, beyond its deadline", over_s, at_most=0.1 * timeout_s + 0.5)
    yield Figure("MiB of memory more", grown_bytes / MIB, at_most=64)
    # In the tests other processes take the same cores.
    latest_ms = setting.size(small=2_000, full=250)
    yield Figure("milliseconds the loop was late", watch.latest_s * 1000, at_most=latest_ms)


class Watch:
    """Knows how late the engine's loop was at worst."""

    def __init__(self) -> None:
        self.latest_s = 0.0
        self._loop: asyncio.AbstractEventLoop = runtime.engine()._loop
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._loop.call_soon_threadsafe(self._look, time.monotonic())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _look(self, due: float) -> None:
        now = time.monotonic()
        self.latest_s = max(self.latest_s, now - due)
        if not self._ended.is_set():
            self._loop.call_later(0.01, self._look, now + 0.01)


def _peak_bytes(*, reset: bool = False) -> int:
    """Return the most memory this process has had, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
