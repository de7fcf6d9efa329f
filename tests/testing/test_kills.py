"""Kills as a schedule out of a seed, counted in work that is done."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from curator_llm.testing.kills import Kill, Killer, kill_schedule


def test_the_same_seed_draws_the_same_kills_one_in_each_part_of_the_work():
    kills = kill_schedule(6, work=600, seed=3, signals=[signal.SIGKILL, signal.SIGTERM])
    assert kills == kill_schedule(6, work=600, seed=3, signals=[signal.SIGKILL, signal.SIGTERM])
    assert [kill.after // 100 for kill in kills] == list(range(6))
    assert {kill.number for kill in kills} == {signal.SIGKILL, signal.SIGTERM}
    assert kills != kill_schedule(6, work=600, seed=4, signals=[signal.SIGKILL, signal.SIGTERM])


@pytest.fixture
def echo():
    with subprocess.Popen([sys.executable, "-c", "print(input())"], stdin=-1, stdout=-1, text=True) as process:
        yield process


def test_a_kill_waits_for_its_part_of_the_work_and_for_a_process_to_hit(echo):
    looks = iter([0, 3, 7, 7, 7, 7])
    processes = iter([[], [echo.pid]])
    with Killer([Kill(5, 1)], work=lambda: next(looks), victims=lambda: next(processes)) as killer:
        assert echo.wait(10) == -signal.SIGKILL
    assert killer.done == [(Kill(5, 1), echo.pid)]
    assert next(looks) == 7


def test_a_stopped_process_goes_on_after_its_time(echo):
    with Killer([Kill(0, 0, signal.SIGSTOP, stopped_s=0.05)], work=lambda: 0, victims=lambda: [echo.pid]) as killer:
        assert echo.communicate("still here\n", timeout=10) == ("still here\n", None)
        while not killer.done:
            pass


def test_a_schedule_that_is_not_reached_ends_with_its_context(echo):
    with Killer([Kill(5, 0)], work=lambda: 4, victims=lambda: [echo.pid]) as killer:
        pass
    assert killer.done == []
    assert echo.communicate("alive\n", timeout=10) == ("alive\n", None)
