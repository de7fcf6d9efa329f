"""Failpoints: each names a place that is there, and a process ends at the passing it was armed for."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from curator_llm.testing.failpoints import EXIT_CODE, FAILPOINTS, arm

PROGRAM = """
import sys
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.testing.failpoints import arm
from curator_llm.wire.exchange import Record
arm(sys.argv[2], int(sys.argv[3]))
journal = Journal(sys.argv[1])
for n in range(1, 4):
    record = Record(
        key=f"{n:032x}", op="chat/1", status="ok", final=True, attempts=1, at=0.0, reply=embed(b"{}")
    )
    journal.append([record])
    print(n, flush=True)
"""


@pytest.mark.parametrize("name", FAILPOINTS)
def test_every_failpoint_names_a_function_that_is_there(name):
    _, _, function = FAILPOINTS[name].resolve()
    assert callable(function)
    assert FAILPOINTS[name].when == "before" or not inspect.iscoroutinefunction(function)


@pytest.mark.parametrize(
    ("name", "said", "lines"), [("before_append", 1, 1), ("after_append", 1, 2), ("within_append", 0, 1)]
)
def test_a_process_ends_at_the_passing_it_was_armed_for(tmp_path, name, said, lines):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), name, "2"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (EXIT_CODE, "")
    assert done.stdout.split() == [str(n) for n in range(1, said + 1)]
    (segment,) = (tmp_path / "seg").iterdir()
    text = segment.read_bytes()
    assert text.count(b"\n") == 1 + lines - (name == "within_append")
    assert text.endswith(b"\n") is (name != "within_append")


def test_an_unknown_failpoint_cannot_be_armed():
    with pytest.raises(KeyError, match="no_such_place"):
        arm("no_such_place")
