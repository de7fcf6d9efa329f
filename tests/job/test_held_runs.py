"""A run that is told to stop, or loses its lease, while rows are in flight."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import threading
from collections.abc import Callable

import pytest
from distributed import Client, Future, LocalCluster

from curator_llm.errors import ConfigurationError
from curator_llm.job.data.output_place import LocalPlace
from curator_llm.job.interrupts import Interrupts
from curator_llm.job.lease_files import Holder, LeaseFiles
from curator_llm.job.retries import Retry
from curator_llm.job.run_directory import RunDirectory
from curator_llm.job.stop import stop_run

OTHER = Holder(9, "node-9", "another boot", 4711, "2026-11-25T02:40:54+00:00")


@pytest.fixture
def files(kit) -> LeaseFiles:
    return LeaseFiles(kit.directory / "run" / "lease")


@pytest.fixture(autouse=True)
def noticed(monkeypatch) -> threading.Event:
    """Tell when the run has noticed that it is to stop; it looks often."""
    noticed = threading.Event()
    for name in ("request", "_handle"):
        original = getattr(Interrupts, name)

        def notice(self, *arguments, original=original):
            noticed.set()
            original(self, *arguments)

        monkeypatch.setattr(Interrupts, name, notice)
    monkeypatch.setattr("curator_llm.job.lease.LOOK_S", 0.02)
    return noticed


@contextlib.contextmanager
def in_flight(kit, noticed: threading.Event, act: Callable[[], object]):
    """Do something once a request waits for its reply; let replies through when the run has noticed."""
    kit.server.pause()

    def meanwhile() -> None:
        kit.server.wait_until(lambda ledger: ledger.in_flight >= 1)
        act()
        noticed.wait(10)
        kit.server.resume()

    thread = threading.Thread(target=meanwhile)
    thread.start()
    yield
    thread.join()


def report(kit) -> dict:
    return json.loads((kit.directory / "run" / "report.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_and_what_is_in_flight_is_kept(kit, number, noticed):
    before = signal.getsignal(number)
    with in_flight(kit, noticed, lambda: signal.pthread_kill(threading.main_thread().ident, number)):
        ending = kit.run()
    assert (ending.status, ending.exit_code) == ("interrupted", 75)
    assert ending.message.endswith("What was answered is kept: run the same command to go on.")
    assert report(kit)["status"] == "interrupted"
    assert signal.getsignal(number) is before
    assert kit.run().exit_code == 0
    assert kit.server.ledger.requests == 12


def test_a_request_to_stop_is_like_ctrl_c_and_names_who_is_stopped(kit, files, noticed):
    said: list[str] = []
    with in_flight(kit, noticed, lambda: said.append(stop_run(kit.directory / "run"))):
        ending = kit.run()
    assert (ending.status, ending.exit_code) == ("interrupted", 75)
    assert ending.message.startswith("Stopped by `curator-llm stop`. What was answered is kept")
    assert said[0].startswith(f"Asked {files.look().holder} to stop: ")
    assert kit.run().exit_code == 0
    assert stop_run(kit.directory / "run") == f"Nobody works in {kit.directory / 'run'}."


def test_a_run_that_the_scheduler_knows_no_more_is_interrupted_and_can_be_gone_on_with(kit, noticed):
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0") as cluster,
        Client(cluster) as other,
    ):
        there = {"cluster": {"scheduler": cluster.scheduler_address}}

        def cancel() -> None:
            keys = other.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
            other.cancel([Future(key, client=other) for key in keys], force=True)

        with in_flight(kit, noticed, cancel):
            ending = kit.run(**there)
        assert (ending.status, ending.exit_code) == ("interrupted", 75)
        assert ending.message == (
            "The scheduler is gone, or somebody cancelled the run there. What was answered is kept: run the same "
            "command to go on."
        )
        assert kit.run(**there).exit_code == 0
    assert kit.server.ledger.requests == 12


def test_a_directory_where_nothing_ran_cannot_be_stopped(kit):
    with pytest.raises(ConfigurationError, match="is no run directory"):
        stop_run(kit.directory)


def test_a_run_that_lost_its_lease_stops_and_leaves_report_and_output_to_the_other_one(kit, files, noticed):
    with in_flight(kit, noticed, lambda: files.write(OTHER)):
        ending = kit.run()
    assert (ending.status, ending.exit_code) == ("interrupted", 75)
    assert ending.message == (
        f"The run was taken over by {OTHER}, to whom this process gave no sign of life: it goes on there. Nothing was "
        "written here."
    )
    assert kit.lines[-1] == ending.message
    assert not (kit.directory / "run" / "report.json").exists()
    assert sorted(path.name for path in kit.directory.iterdir()) == ["docs.parquet", "job.yaml", "run"]
    assert files.look().holder == OTHER


def test_a_run_does_not_put_its_output_in_place_when_it_lost_the_lease_at_the_last_moment(kit, files, monkeypatch):
    from curator_llm.job import driver

    def lost(*_: object) -> None:
        files.write(OTHER)

    monkeypatch.setattr(driver, "remove_strays", lost)
    monkeypatch.setattr("curator_llm.job.lease.LOOK_S", 60)  # it has to look by itself
    assert kit.run().exit_code == 75
    assert not (kit.directory / "out").exists()
    assert not (kit.directory / "run" / "_SUCCESS").exists()


def test_a_run_that_waits_takes_up_what_was_recorded_meanwhile(kit, files):
    kit.run()
    lock = files.lock()
    files.write(dataclasses.replace(files.look().holder, released=False))
    directory = RunDirectory(kit.directory / "run")

    class Lines(list):
        def append(self, line: str) -> None:
            super().append(line)
            if line.endswith("waiting for its end."):
                retry = Retry("topic", ("truncated",), (), 1)
                directory.write_manifest({**directory.manifest(), "retries": [retry.as_json()]})
                lock.close()

    kit.lines = Lines()
    assert kit.run(wait=True).exit_code == 0
    assert kit.lines[0].startswith(f"Another process is at work in {kit.directory / 'run'}: process ")
    assert (report(kit)["lease"], report(kit)["retries"][0]["statuses"]) == (2, ["truncated"])


def test_off_the_main_thread_a_request_interrupts_where_it_is_looked_for():
    ended = threading.Event()

    def work() -> None:
        with Interrupts() as interrupts, contextlib.suppress(KeyboardInterrupt), interrupts.armed():
            threading.Thread(target=interrupts.request, args=["a test"]).start()
            while True:
                interrupts.check()
        ended.set()

    threading.Thread(target=work).start()
    assert ended.wait(10)


def test_a_second_signal_and_one_outside_of_the_armed_part_end_nothing(capfd):
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.why == "Stopped by SIGTERM"
        with pytest.raises(KeyboardInterrupt), interrupts.armed():
            pass
        signal.raise_signal(signal.SIGINT)
    assert interrupts.why == "Stopped by SIGTERM"
    assert capfd.readouterr().err == "Already stopping: replies in flight are awaited, so that they are not lost.\n"


def test_a_signal_while_it_is_held_off_comes_at_the_end_of_that_part():
    done = []

    def start(interrupts: Interrupts) -> None:
        with interrupts.held_off():
            signal.raise_signal(signal.SIGTERM)
            done.append("started")
        done.append("too far")

    with Interrupts() as interrupts, interrupts.armed(), pytest.raises(KeyboardInterrupt):
        start(interrupts)
    assert done == ["started"]


def test_a_signal_while_the_output_is_put_in_place_is_too_late(kit, monkeypatch):
    put_in_place = LocalPlace.put_in_place

    def put(self, whole) -> None:
        signal.raise_signal(signal.SIGTERM)
        put_in_place(self, whole)

    monkeypatch.setattr(LocalPlace, "put_in_place", put)
    assert kit.run().exit_code == 0
    assert len(kit.output()) == 12


def test_a_job_in_the_background_of_a_shell_stays_deaf_to_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.why is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
