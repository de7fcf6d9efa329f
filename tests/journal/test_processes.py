"""Several processes share a journal, and any of them can be killed at any point."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import dask.config
import pytest

import curator_llm
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.wire.exchange import Record

PRELUDE = """
import os, sys
from curator_llm.errors import JournalError
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.wire.exchange import Record

def make(number, said="child"):
    return Record(f"{number:032x}", "chat/1", "ok", True, 1, 1.0, embed(b'{"said":"%b"}' % said.encode()))

def key(number):
    return number.to_bytes(16, "big")

directory = sys.argv[1]
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and limits of POSIX")


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def make(number: int, said: str = "parent") -> Record:
    return Record(f"{number:032x}", "chat/1", "ok", True, 1, 1.0, embed(b'{"said":"%b"}' % said.encode()))


def start(program: str, directory: Path) -> subprocess.Popen[str]:
    path = str(Path(curator_llm.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "DASK_CURATOR_LLM__JOURNAL__ROLL_RECORDS": "100"},
    )


def run(program: str, directory: Path) -> list[str]:
    child = start(program, directory)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return printed.splitlines()


def test_two_processes_read_what_the_other_writes_and_agree_on_the_first(tmp_path):
    program = """
        with Journal(directory) as journal:
            journal.append([make(1), make(3)])
            print("written", flush=True)
            sys.stdin.readline()
            journal.refresh()
            found = journal.lookup([key(1), key(2), key(3)])
            print(sorted(bytes(record.reply).decode() for record in found.values()))
    """
    with start(program, tmp_path) as child, Journal(tmp_path) as journal:
        assert child.stdout.readline() == "written\n"
        journal.append([make(2), make(3)])
        journal.refresh()
        here = journal.lookup([key(1), key(2), key(3)])
        child.stdin.write("go on\n")
        child.stdin.flush()
        there = child.stdout.readline()
    said = sorted(bytes(record.reply).decode() for record in here.values())
    assert said == ['{"said":"child"}', '{"said":"child"}', '{"said":"parent"}']
    assert there == f"{said}\n"


def test_a_killed_writer_leaves_every_record_it_had_appended(tmp_path):
    program = """
        journal = Journal(directory)
        for number in range(10_000_000):
            journal.append([make(number)])
            print(number, flush=True)
    """
    with start(program, tmp_path) as child:
        for line in child.stdout:
            if int(line) >= 2000:
                child.kill()
                break
        last = max([2000, *map(int, child.stdout.read().split())])
    found = Journal(tmp_path).lookup(map(key, range(last + 1)))
    assert found == {key(number): make(number, "child") for number in range(last + 1)}


def test_a_file_cut_anywhere_gives_the_whole_records_before_the_cut(tmp_path):
    with Journal(tmp_path / "whole") as journal:
        journal.append([make(number) for number in range(5)])
    (segment,) = (tmp_path / "whole" / "seg").iterdir()
    content = segment.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(0, len(content) + 1, 17):
        directory = tmp_path / str(cut)
        (directory / "seg").mkdir(parents=True)
        (directory / "seg" / segment.name).write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends[1:])
        assert set(Journal(directory).lookup(map(key, range(5)))) == set(map(key, range(whole)))


def test_a_file_size_limit_loses_no_whole_record_and_leaves_no_half_one(tmp_path):
    program = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        journal = Journal(directory)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, unlimited[1]))
        number = 0
        try:
            while True:
                journal.append([make(number), make(number + 1)])
                number += 2
        except JournalError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        journal.append([make(1000)])
        journal.close()
        print(number)
    """
    message, count = run(program, tmp_path)
    assert "ulimit -f" in message
    found = Journal(tmp_path).lookup(map(key, range(1001)))
    assert set(found) == {key(number) for number in [*range(int(count)), 1000]}
    contents = [path.read_bytes() for path in (tmp_path / "seg").iterdir()]
    assert len(contents) == 2
    assert all(content.endswith(b"\n") for content in contents)


def test_a_forked_child_is_told_to_open_its_own(tmp_path):
    program = """
        journal = Journal(directory)
        journal.append([make(1)])
        child = os.fork()
        if not child:
            for use in (lambda: journal.append([make(2)]), lambda: journal.lookup([key(1)])):
                try:
                    use()
                except JournalError as error:
                    print(error, flush=True)
            with Journal(directory) as own:
                own.append([make(3)])
            journal.close()
            os._exit(0)
        os.waitpid(child, 0)
        journal.append([make(4)])
        journal.close()
    """
    messages = run(program, tmp_path)
    assert len(messages) == 2
    assert all("fork" in message and "Open it again" in message for message in messages)
    assert set(Journal(tmp_path).lookup(map(key, range(5)))) == {key(1), key(3), key(4)}


def test_threads_read_while_one_writes_and_rolls(tmp_path):
    missing = []
    with dask.config.set({"curator-llm.journal.roll-records": 50}), Journal(tmp_path) as journal:
        written = [0]
        done = threading.Event()

        def read():
            other = Journal(tmp_path)
            while not done.is_set():
                count = written[0]
                other.refresh()
                for reader in (journal, other):
                    found = reader.lookup(map(key, range(count)))
                    missing.extend(number for number in range(count) if found.get(key(number)) != make(number))
                missing.extend(
                    number for number in range(max(0, count - 60), count) if not journal.find_own(key(number))
                )

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(0, 600, 3):
            journal.append([make(number), make(number + 1), make(number + 2)])
            written[0] = number + 3
        done.set()
        for reader in readers:
            reader.join()
    assert missing == []
