"""The lease on a run directory: one driver at a time, and another one after it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading

import pytest

from curator_llm.errors import ConfigurationError, RunError, RunTakenOverError
from curator_llm.job import lease_files
from curator_llm.job.lease import BEAT_S, MISSED_S, STALE_S, Watch, take_lease
from curator_llm.job.lease_files import Holder, LeaseFiles, Look, this_machine

THERE = Holder(3, "node-9", "another boot", 4711, "2026-11-25T02:40:54+00:00")


class Clock:
    """Time that goes on when somebody sleeps; what happens elsewhere meanwhile is passed in."""

    def __init__(self, *happens) -> None:
        self.now = 0.0
        self.happens = list(happens)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.happens:
            self.happens.pop(0)()


def look(text: str = "a", **changes) -> Look:
    return Look(3, text, dataclasses.replace(THERE, **changes))


taken = []


def take(path, clock: Clock | None = None, **options):
    clock = clock or Clock()
    taken.append(take_lease(path, clock=clock, sleep=clock.sleep, **options))
    return taken[-1]


@pytest.fixture(autouse=True)
def give_back():
    yield
    while taken:
        taken.pop()._lock.close()


@pytest.fixture
def files(tmp_path) -> LeaseFiles:
    files = LeaseFiles(tmp_path / "lease")
    files.lock().close()
    return files


@pytest.mark.parametrize(
    ("seen", "lock", "verdict"),
    [
        (None, "own", "free"),
        (None, "unknown", "free"),
        (look(released=True), "own", "free"),
        (look(machine="here"), "own", "watch"),
        (look(machine="here"), "taken", "held"),
        (look(machine="here"), "unknown", "watch"),
        (look(), "own", "watch"),
        (look(released=True), "taken", "watch"),
        (Look(3, "", None), "own", "watch"),
    ],
)
def test_a_newcomer_knows_at_once_or_watches(seen, lock, verdict):
    assert Watch("here", 0.0).judge(seen, lock, 0.0) == verdict


def test_a_beat_that_goes_on_is_a_holder_that_lives_and_one_that_stands_still_a_dead_one():
    watch = Watch("here", 0.0)
    assert watch.judge(look("a"), "own", 0.0) == "watch"
    assert watch.judge(look("a"), "own", STALE_S - 1) == "watch"
    assert watch.judge(look("a"), "own", STALE_S) == "free"
    assert watch.judge(look("b"), "own", STALE_S) == "held"


def test_where_the_lock_is_free_a_process_that_is_surely_gone_is_followed_at_once_and_others_after_a_missed_beat():
    here = look(machine="here")
    assert Watch("here", 0.0).judge(here, "own", 0.0, is_gone=True) == "free"
    watch = Watch("here", 0.0)
    assert watch.judge(here, "own", 0.0) == "watch"
    assert watch.judge(here, "own", MISSED_S - 0.1) == "watch"
    assert watch.judge(here, "own", MISSED_S) == "free"


def test_a_process_is_surely_gone_when_another_one_has_its_number_but_not_when_it_is_of_another_container():
    me = Holder.here(1)
    assert not me.is_gone
    assert dataclasses.replace(me, process=f"{me.process}1").is_gone
    assert dataclasses.replace(me, pid=4_194_305).is_gone
    for other in (f"pid:[1]/{me.process.partition('/')[2]}", ""):
        assert not dataclasses.replace(me, pid=4_194_305, process=other).is_gone
    assert not dataclasses.replace(me, pid=4_194_305, machine="another boot").is_gone


def test_a_process_that_the_system_hides_is_not_surely_gone(monkeypatch):
    me = Holder.here(1)
    monkeypatch.setattr(lease_files, "_process", lambda pid: me.process if pid == os.getpid() else "")
    assert not dataclasses.replace(me, pid=os.getppid()).is_gone
    assert dataclasses.replace(me, pid=4_194_305).is_gone


def test_a_holder_in_another_container_of_this_machine_that_beats_is_not_robbed(tmp_path, files):
    holder = dataclasses.replace(THERE, machine=this_machine(), process="pid:[1]/5")
    files.write(holder)
    clock, lines = Clock(lambda: files.write(dataclasses.replace(holder, beat=1))), []
    with pytest.raises(ConfigurationError, match=r"process 4711 on node-9, .*; wait for it with --wait, or end it"):
        take(tmp_path, clock, say=lines.append)
    assert lines[0].endswith("taken over if it gives no sign of life for 7 s.")


def test_who_finds_another_newcomer_waiting_is_told_of_that_one(tmp_path, files):
    files.write(dataclasses.replace(THERE, machine=this_machine()))
    with files.lock(), pytest.raises(ConfigurationError) as caught:
        take(tmp_path)
    assert f"is about to work in {tmp_path}: process {os.getpid()} of this machine, which watches" in str(caught.value)
    assert str(caught.value).endswith("is dead; wait for it with --wait.")


def test_the_first_lease_is_1_and_each_later_one_is_higher(tmp_path):
    for number in (1, 2, 3):
        with take(tmp_path) as lease:
            assert lease.number == number
    assert [file.name for file in (tmp_path / "lease").glob("*.json")] == ["00000003.json"]


def test_a_holder_elsewhere_whose_beat_stands_still_is_followed_within_60_s(tmp_path, files):
    files.write(THERE)
    clock, lines = Clock(), []
    with take(tmp_path, clock, say=lines.append) as lease:
        assert lease.number == 4
    assert STALE_S <= clock.now <= 60
    assert len(lines) == 1
    assert "held by process 4711 on node-9, since 2026-11-25T02:40:54+00:00: taken over if it gives no sign" in lines[0]


def test_a_holder_elsewhere_that_beats_is_named_and_the_newcomer_refused(tmp_path, files):
    files.write(THERE)
    clock = Clock(lambda: files.write(dataclasses.replace(THERE, beat=1)))
    with pytest.raises(ConfigurationError) as caught:
        take(tmp_path, clock)
    assert str(caught.value) == (
        f"Another process is at work in {tmp_path}: process 4711 on node-9, since 2026-11-25T02:40:54+00:00; wait for "
        f"it with --wait, or end it with `curator-llm stop {tmp_path}`."
    )
    assert files.highest() == 3


def test_who_waits_takes_the_lease_when_the_holder_ends(tmp_path, files):
    files.write(THERE)
    beats = [lambda beat=beat: files.write(dataclasses.replace(THERE, beat=beat)) for beat in range(1, 200)]
    clock, lines = Clock(*beats, lambda: files.write(dataclasses.replace(THERE, released=True))), []
    with take(tmp_path, clock, wait=True, say=lines.append) as lease:
        assert lease.number == 4
    assert clock.now >= 200
    assert len(lines) == 2
    assert lines[1].endswith("; waiting for its end.")


def test_of_two_newcomers_one_gets_the_number(files):
    assert [files.create(4), files.create(4)] == [True, False]


def test_a_newcomer_that_slept_does_not_take_a_number_below_the_highest(files):
    files.write(dataclasses.replace(THERE, number=9))
    assert not files.create(8)
    assert files.highest() == 9


def test_a_holder_beats_and_says_when_it_has_ended(tmp_path, files):
    clock = Clock()
    lease = take(tmp_path, clock)
    first = files.look()
    lease.look()
    assert files.look() == first
    clock.now = BEAT_S
    lease.look()
    assert files.look() != first
    assert files.look().holder.pid == os.getpid()
    with lease:
        assert not files.look().holder.released
    assert files.look().holder.released
    assert files.working() is None


def test_a_holder_that_sees_a_higher_number_has_lost_and_writes_nothing_any_more(tmp_path, files):
    clock, said = Clock(), []
    lease = take(tmp_path, clock)
    lease.on_lost = said.append
    files.write(dataclasses.replace(THERE, number=2))
    before = {file.name: file.read_text() for file in files.directory.iterdir()}
    clock.now = BEAT_S
    with pytest.raises(RunTakenOverError, match=r"taken over by process 4711 on node-9"):
        lease.check()
    with lease:
        lease.look()
        assert lease.lost == said[0]
    assert {file.name: file.read_text() for file in files.directory.iterdir()} == before
    assert len(said) == 1


def test_a_lease_that_cannot_be_looked_at_is_none_to_write_with(tmp_path, files):
    lease = take(tmp_path)
    for file in files.directory.iterdir():
        file.unlink()
    files.directory.rmdir()
    with pytest.raises(RunError, match="cannot be looked at"):
        lease.check()


def test_a_holder_hears_once_that_it_is_to_stop_and_the_next_one_does_not(tmp_path, files):
    stopped = threading.Event()
    with take(tmp_path) as lease:
        lease.on_stop = stopped.set
        assert files.working().number == lease.number
        files.ask_to_stop(lease.number)
        assert stopped.wait(10)
    with take(tmp_path) as lease:
        assert not files.asked_to_stop(lease.number)
    assert sorted(file.suffix for file in files.directory.iterdir()) == [".json", ".lock"]


HOLD = """
import sys
from pathlib import Path
from curator_llm.job.lease import take_lease
with take_lease(Path(sys.argv[1])) as lease:
    print(lease.number, flush=True)
    sys.stdin.read()
"""


def test_a_driver_of_this_machine_is_named_while_it_lives_and_followed_at_once_when_it_is_killed(tmp_path, files):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "1\n"
        assert files.working().pid == child.pid
        with pytest.raises(ConfigurationError, match=f"process {child.pid} on "):
            take(tmp_path)
        child.send_signal(signal.SIGKILL)
    assert files.working() is None
    clock = Clock()
    with take(tmp_path, clock) as lease:
        assert (lease.number, clock.now) == (2, 0.0)
        assert files.look().holder.machine == this_machine()
