"""The journal under all that people and machines do to it, in any order, against a plain reading of its lines."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curator_llm.errors import JournalError
from curator_llm.journal.claims import has_writer
from curator_llm.journal.contents import contents
from curator_llm.journal.record import decode, embed, encode
from curator_llm.journal.segment import segments_of
from curator_llm.journal.store import Journal
from curator_llm.journal.upkeep import Upkeep, compact, remove
from curator_llm.wire.exchange import Record
from tests.journal.damage import KEYS, hurt, whole

keys = st.sampled_from(KEYS)
#: Two processes.
processes = st.integers(0, 1)
HARMS = st.tuples(
    st.sampled_from(["overwrite", "insert", "delete", "cut", "flip", "zeros", "twice", "glue"]),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=20),
    st.integers(0, 9),
)


def has_segments(machine: JournalMachine) -> bool:
    return bool(segments_of(machine.directory))


class JournalMachine(RuleBasedStateMachine):
    """Two processes write, die and come back; others compact, forget, purge and damage what nobody writes."""

    @initialize()
    def open_both(self) -> None:
        self.patches = [patch.object(os, name, lambda _: None) for name in ("fsync", "fdatasync")]
        for patched in self.patches:
            patched.start()
        self.directory = Path(tempfile.mkdtemp())
        self.written: dict[bytes, list[Record]] = {}
        self.kept: dict[bytes, Record] = {}  # what nobody may lose
        self.numbers = itertools.count(1)
        self.is_damaged = False
        self.journals = [Journal(self.directory), Journal(self.directory)]

    def teardown(self) -> None:
        for journal in self.journals:
            journal.close()
        for patched in self.patches:
            patched.stop()
        shutil.rmtree(self.directory)

    @rule(process=processes, said=st.lists(st.tuples(keys, st.booleans()), min_size=1, max_size=6))
    def append(self, process: int, said: list[tuple[bytes, bool]]) -> None:
        records = [self._record(key, final=final) for key, final in said]
        self.journals[process].append(records)
        for record in records:
            if record.final:
                self.kept.setdefault(bytes.fromhex(record.key), record)

    @rule(process=processes, key=keys, share=st.floats(0, 0.99))
    def append_and_be_killed_within_the_write(self, process: int, key: bytes, share: float) -> None:
        journal = self.journals[process]
        self.append(process, [(key, True)])
        writer = journal._writer  # a kill asks nobody either
        assert writer is not None
        line = encode(self._record(key, final=True))
        os.write(writer._file, line[: int(len(line) * share)])
        os.close(writer._file)
        self.journals[process] = Journal(self.directory)

    @rule(process=processes)
    def end_and_start_again(self, process: int) -> None:
        self.journals[process].close()
        self.journals[process] = Journal(self.directory)

    @rule()
    def both_end_and_start_again(self) -> None:
        for process in range(len(self.journals)):
            self.end_and_start_again(process)

    @precondition(has_segments)
    @rule()
    def compact(self) -> None:
        self._upkeep(lambda: compact(self.directory), lambda _: False)

    @precondition(has_segments)
    @rule(key=keys)
    def forget(self, key: bytes) -> None:
        self._removed(lambda record: record.key == key.hex())

    @precondition(has_segments)
    @rule(age=st.integers(0, 40))
    def purge(self, age: int) -> None:
        oldest = next(self.numbers) - age
        self._removed(lambda record: record.at < oldest)

    @precondition(lambda self: any(not has_writer(path) for path in segments_of(self.directory)))
    @rule(harm=HARMS)
    def damage(self, harm: tuple[str, int, bytes, int]) -> None:
        hurt([path for path in segments_of(self.directory) if not has_writer(path)], harm)
        self.is_damaged = True
        self._keep(whole(self.directory, self.written))

    @rule()
    def lose_all_indexes(self) -> None:
        for path in (self.directory / "idx").iterdir():
            path.unlink()

    @invariant()
    def everybody_finds_the_first_whole_record_of_each_key(self) -> None:
        first = whole(self.directory, self.written)
        for journal in (*self.journals, Journal(self.directory)):
            journal.refresh()
            found = journal.lookup(KEYS)
            assert all(record in self.written[key] for key, record in found.items())
            assert self.kept.keys() <= found.keys()
            if not self.is_damaged:  # a line whose end alone is gone may still be read
                assert found == first

    @invariant()
    def the_contents_are_those_of_a_plain_reading(self) -> None:
        counted = contents(self.directory)
        lines = [line for path in segments_of(self.directory) for line in path.read_bytes().split(b"\n")[:-1]]
        records = [record for line in lines if (record := decode(line))]
        finals = [record for record in records if record.final]
        assert (counted.records, counted.final) == (len(records), len(finals))
        assert counted.distinct == len({record.key for record in finals})
        if not self.is_damaged:
            assert counted.damaged == 0

    def _record(self, key: bytes, *, final: bool) -> Record:
        number = next(self.numbers)
        reply = embed(b'{"said":%d}' % number)
        record = Record(key.hex(), "chat/1", "ok" if final else "failed", final, 1, float(number), reply, billed=True)
        if final:
            self.written.setdefault(key, []).append(record)
        return record

    def _removed(self, condition) -> None:
        self._upkeep(lambda: remove(self.directory, condition), condition)

    def _upkeep(self, work, goes) -> None:
        """Do upkeep; while somebody writes it is refused, and changes nothing."""
        written = any(has_writer(path) for path in segments_of(self.directory))
        before = {path: path.read_bytes() for path in segments_of(self.directory)}
        if written:
            with pytest.raises(JournalError, match="still writes"):
                work()
            assert {path: path.read_bytes() for path in segments_of(self.directory)} == before
            return
        first = whole(self.directory, self.written)
        assert isinstance(work(), Upkeep)
        left = whole(self.directory, self.written)
        assert not any(goes(record) for record in left.values())
        assert all(left[key] == record for key, record in first.items() if not goes(record))
        self._keep(left)

    def _keep(self, left: dict[bytes, Record]) -> None:
        """Take note of what is left of what was kept; a damage that mends another one is not looked for."""
        self.kept = {key: record for key, record in left.items() if key in self.kept}


JournalMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestJournalMachine = JournalMachine.TestCase
