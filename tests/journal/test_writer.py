"""The thread that writes the journal."""

from __future__ import annotations

import shutil
import threading

import dask.config
import pytest

from curator_llm.errors import JournalError
from curator_llm.journal.record import embed
from curator_llm.journal.store import Journal
from curator_llm.journal.writer import JournalWriter
from curator_llm.wire.exchange import Record


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def make(number: int) -> Record:
    return Record(f"{number:032x}", "chat/1", "ok", True, 1, 1.0, embed(b"{}"))


class Desk:
    """Takes what a writer delivers and what it gives back."""

    def __init__(self, journal):
        self.delivered: list[list[int]] = []
        self.given_back: list[tuple[str, list[int]]] = []
        self.arrived = threading.Semaphore(0)
        self.on_deliver = lambda numbers: None
        self.writer = JournalWriter(journal, self.deliver, self.failed)

    def deliver(self, items):
        numbers = [number for _, number in items]
        self.on_deliver(numbers)
        self.delivered.append(numbers)
        self.arrived.release()

    def failed(self, error, items):
        assert isinstance(error, JournalError)
        self.given_back.append((str(error), [number for _, number in items]))
        self.arrived.release()

    def put(self, *numbers):
        for number in numbers:
            self.writer.put((make(number), number))

    def wait(self):
        assert self.arrived.acquire(timeout=30)

    @property
    def all_delivered(self):
        return [number for batch in self.delivered for number in batch]

    @property
    def all_given_back(self):
        return [number for _, batch in self.given_back for number in batch]


class Counting(Journal):
    """A journal that counts what is asked of it."""

    syncs = 0
    sync_error = None

    def sync(self):
        self.syncs += 1
        if self.sync_error:
            raise self.sync_error
        super().sync()


@pytest.fixture
def journal(tmp_path):
    with Counting(tmp_path / "journal") as journal:
        yield journal


@pytest.fixture
def desk(journal):
    desk = Desk(journal)
    yield desk
    desk.writer.close()


def test_an_item_is_delivered_once_it_is_in_the_journal(desk, journal):
    seen = []
    desk.on_deliver = lambda numbers: seen.append(set(journal.lookup(map(key, numbers))))
    desk.put(1)
    desk.wait()
    assert desk.delivered == [[1]]
    assert seen == [{key(1)}]
    assert journal.find_own(key(1)) == make(1)


def test_what_comes_while_the_thread_is_busy_is_one_batch(desk):
    busy, go_on = threading.Event(), threading.Event()

    def hold(numbers):
        if numbers == [1]:
            busy.set()
            go_on.wait(30)

    desk.on_deliver = hold
    desk.put(1)
    assert busy.wait(30)
    desk.put(*range(2, 12))
    go_on.set()
    desk.writer.close()
    assert desk.delivered == [[1], list(range(2, 12))]


def test_closing_writes_and_delivers_what_was_put(desk, tmp_path):
    desk.put(*range(500))
    desk.writer.close()
    assert desk.all_delivered == list(range(500))
    assert len(Journal(tmp_path / "journal").lookup(map(key, range(500)))) == 500


def test_closing_twice_or_unused_is_fine(journal):
    desk = Desk(journal)
    desk.writer.close()
    desk.writer.close()
    assert desk.delivered == []


def test_the_disk_is_asked_once_for_many_batches_and_at_the_end(journal):
    with dask.config.set({"curator-llm.journal.sync-interval": "1h"}):
        desk = Desk(journal)
    for number in range(5):
        desk.put(number)
        desk.wait()
    assert journal.syncs == 0
    desk.writer.close()
    assert journal.syncs == 1


def test_the_disk_is_asked_when_the_interval_is_over_and_nothing_comes(journal):
    synced = threading.Event()
    journal.sync = synced.set
    with dask.config.set({"curator-llm.journal.sync-interval": "1ms"}):
        desk = Desk(journal)
    desk.put(1)
    assert synced.wait(30)
    desk.writer.close()


def test_a_disk_that_says_no_is_told_without_items(desk, journal):
    journal.sync_error = JournalError("the disk is gone")
    desk.put(1)
    desk.writer.close()
    assert desk.all_delivered == [1]
    assert desk.given_back == [("the disk is gone", [])]


def test_items_that_cannot_be_written_are_given_back_and_the_thread_lives_on(desk, tmp_path):
    shutil.rmtree(tmp_path / "journal" / "seg")
    desk.put(1)
    desk.wait()
    assert desk.all_given_back == [1]
    assert "Cannot make" in desk.given_back[0][0]
    (tmp_path / "journal" / "seg").mkdir()
    desk.put(2)
    desk.wait()
    assert desk.all_delivered == [2]


def test_items_that_make_no_sense_are_given_back_and_the_thread_lives_on(desk):
    desk.writer.put((Record("no key", "chat/1", "ok", True, 1, 0.0, embed(b"{}")), 1))
    desk.wait()
    desk.put(2)
    desk.wait()
    assert desk.all_given_back == [1]
    assert desk.all_delivered == [2]


def test_items_that_cannot_be_delivered_are_given_back_and_the_thread_lives_on(desk, caplog):
    def refuse(numbers):
        if numbers == [1]:
            raise RuntimeError("the loop is closed")

    desk.on_deliver = refuse
    desk.put(1)
    desk.wait()
    desk.put(2)
    desk.wait()
    assert desk.all_given_back == [1]
    assert desk.all_delivered == [2]
    assert "could not be delivered" in caplog.text


def test_no_item_hangs_when_the_thread_dies(desk, caplog):
    busy, go_on = threading.Event(), threading.Event()

    def die(_):
        busy.set()
        go_on.wait(30)
        raise SystemExit

    desk.on_deliver = die
    desk.put(1)
    assert busy.wait(30)
    desk.put(2, 3)
    go_on.set()
    desk.writer.close()
    desk.put(4)
    assert desk.all_given_back == [1, 2, 3, 4]
    assert "writer failed" in caplog.text


def test_an_item_put_after_the_end_is_given_back(desk):
    desk.put(1)
    desk.writer.close()
    desk.put(2)
    assert desk.all_delivered == [1]
    assert desk.all_given_back == [2]


def test_every_item_of_many_threads_ends_once(desk):
    threads = [threading.Thread(target=desk.put, args=range(start, start + 200)) for start in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    desk.writer.close()
    for thread in threads:
        thread.join()
    assert sorted(desk.all_delivered + desk.all_given_back) == list(range(1600))


def test_without_a_journal_items_are_delivered_at_once():
    desk = Desk(None)
    desk.put(1, 2)
    assert desk.delivered == [[1], [2]]
    desk.writer.close()
