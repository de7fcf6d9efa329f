"""The place of the output: whole or as it was before, and never what somebody else wrote."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curator_llm.errors import ConfigurationError, RunError
from curator_llm.job.data.output_place import LocalPlace, output_place
from curator_llm.job.data.storage import StorePath, make_directory
from curator_llm.job.run_directory import RunDirectory


@pytest.fixture
def directory(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.held():
        yield directory


@pytest.fixture
def place(tmp_path, directory):
    return LocalPlace(tmp_path / "out", directory)


def begin(place: LocalPlace, directory: RunDirectory) -> str:
    run = directory.begin("job")
    place.clear()
    return run


def write_output(place: LocalPlace, text: str) -> None:
    make_directory(place.partial)
    (place.partial / "part").write_text(text)
    place.put_in_place(place.partial)


class KilledError(Exception):
    """Stands for the end of the process."""


class Killer:
    """Ends the process before its n-th change of a file system, a store or the manifest."""

    def __init__(self, monkeypatch, directory) -> None:
        self.left: int | None = None
        for target, name in [
            (MemoryFileSystem, "rm"),
            (MemoryFileSystem, "rm_file"),
            (MemoryFileSystem, "cp_file"),
            (Path, "rename"),
            (type(directory), "write_manifest"),
        ]:
            monkeypatch.setattr(target, name, self._before(getattr(target, name)))

    def _before(self, change):
        def changed(*args, **kwargs):
            if self.left is not None:
                if self.left == 0:
                    raise KilledError
                self.left -= 1
            return change(*args, **kwargs)

        return changed


def test_a_run_replaces_its_own_output(tmp_path, directory):
    place = LocalPlace(tmp_path / "deep" / "out", directory)
    begin(place, directory)
    write_output(place, "first")
    place.check()
    begin(place, directory)
    write_output(place, "second")
    assert [file.read_text() for file in place.output.iterdir()] == ["second"]
    assert [path.name for path in place.output.parent.iterdir()] == ["out"]


def test_an_output_of_somebody_else_is_refused_and_left_alone(place):
    place.output.mkdir()
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.check()


def test_an_output_put_where_the_own_one_was_is_not_the_own_one(tmp_path, place, directory):
    begin(place, directory)
    write_output(place, "own")
    place.output.rename(tmp_path / "moved away")
    place.output.mkdir()
    (place.output / "part").write_text("not")
    with pytest.raises(ConfigurationError, match=r"holds part, and the run in .* did not write it, or it was changed"):
        place.check()


def test_a_file_put_where_the_own_one_was_is_not_the_own_one(place, directory):
    begin(place, directory)
    place.partial.write_text("own")
    place.put_in_place(place.partial)
    place.check()
    before = place.output.stat()
    place.output.write_text("precious")
    os.utime(place.output, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert place.output.stat().st_ino == before.st_ino
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.check()


@pytest.mark.parametrize("name", ["NOTES.md", "deep/NOTES.md", "link"])
def test_what_people_add_to_an_output_is_not_removed(tmp_path, place, directory, name):
    begin(place, directory)
    write_output(place, "own")
    added = place.output / name
    added.parent.mkdir(exist_ok=True)
    added.symlink_to(tmp_path) if name == "link" else added.write_text("precious")
    with pytest.raises(ConfigurationError, match=f"holds {name}, and the run"):
        place.check()


def test_a_copy_that_keeps_times_and_what_is_left_of_the_own_output_are_the_own_one(tmp_path, place, directory):
    begin(place, directory)
    write_output(place, "own")
    shutil.copytree(place.output, tmp_path / "copy")
    shutil.rmtree(place.output)
    (tmp_path / "copy").rename(place.output)
    place.check()
    (place.output / "part").unlink()
    place.check()


def test_an_output_that_an_earlier_version_knew_by_a_number_is_refused(place, directory):
    begin(place, directory)
    place.output.mkdir()
    number = place.output.stat().st_ino
    directory.write_manifest({**directory.manifest(), "written": {str(place.output): number}})
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.check()


def test_a_link_to_nowhere_at_the_output_is_refused_at_the_start(tmp_path, place):
    place.output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.check()


@pytest.mark.parametrize("kill_at", range(5))
def test_a_rename_that_was_killed_anywhere_leaves_one_of_the_two_outputs_as_the_own_one(
    place, directory, monkeypatch, kill_at
):
    begin(place, directory)
    write_output(place, "first")
    killer = Killer(monkeypatch, directory)
    killer.left = kill_at
    try:
        write_output(place, "second")
        ended = True
    except KilledError:
        ended = False
    killer.left = None
    place.check()
    begin(place, directory)
    assert (place.output / "part").read_text() == ("first" if kill_at < 3 else "second")
    assert [path.name for path in place.output.parent.iterdir() if path.name.startswith("out")] == ["out"]
    place.check()
    assert ended == (kill_at > 3)  # the kills reach from the first change to the last


@pytest.mark.parametrize("where", ["file/out", "file/deep/out"])
def test_an_output_that_cannot_be_written_is_named(tmp_path, directory, where):
    (tmp_path / "file").touch()
    place = LocalPlace(tmp_path / where, directory)
    place.check()
    directory.begin("job")
    with pytest.raises(ConfigurationError, match=rf"{where} cannot be written \(Not a directory\): name another"):
        place.begin()


def test_an_output_that_comes_up_during_the_run_is_not_replaced(place, directory):
    begin(place, directory)
    make_directory(place.partial)
    place.output.write_text("precious")
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.put_in_place(place.partial)
    assert place.output.read_text() == "precious"


def test_what_a_killed_execution_left_is_removed_at_the_next_start(tmp_path, place, directory):
    begin(place, directory)
    partial = place.partial
    make_directory(partial)
    (partial / "part").write_text("torn")
    other = tmp_path / "out.partial-another-run"
    other.mkdir()
    begin(place, directory)
    assert not partial.exists()
    assert other.exists()


def test_an_output_is_brought_back_after_a_kill_between_the_two_renames(tmp_path, place, directory):
    run = begin(place, directory)
    write_output(place, "first")
    place.output.rename(tmp_path / f"out.replaced-{run}")
    place.check()
    begin(place, directory)
    assert (place.output / "part").read_text() == "first"
    place.check()


def test_an_output_around_the_run_directory_is_refused(tmp_path, directory):
    with pytest.raises(ConfigurationError, match="would replace it"):
        LocalPlace(tmp_path, directory).check()


# --- on a store ---


@pytest.fixture
def stored(bucket, directory):
    return output_place(bucket / "out", directory)


def store_output(place, **parts: str) -> None:
    make_directory(place.partial)
    (place.partial / "_started").unlink()
    for name, text in parts.items():
        (place.partial / name).write_bytes(text.encode())
    place.put_in_place(place.partial)


def contents(location: StorePath) -> dict[str, str]:
    return {name: location.fs.cat_file(location.below(name).path).decode() for name in location.files()}


def test_a_run_replaces_its_own_output_on_a_store(bucket, stored, directory):
    begin(stored, directory)
    store_output(stored, a="first", b="first")
    stored.check()
    begin(stored, directory)
    store_output(stored, a="second")
    assert contents(bucket) == {"out/a": "second"}
    stored.check()


def test_a_file_on_a_store_is_replaced_by_one(bucket, directory):
    place = output_place(bucket / "out.jsonl", directory)
    begin(place, directory)
    for text in ("first", "second"):
        (place.partial / "whole").write_bytes(text.encode())
        place.put_in_place(place.partial / "whole")
    assert contents(bucket) == {"out.jsonl": "second"}


@pytest.mark.parametrize("name", ["a", "c", "deep/a"])
def test_a_file_of_somebody_else_among_the_own_ones_is_not_replaced(bucket, stored, directory, name):
    begin(stored, directory)
    store_output(stored, a="first", b="first")
    (bucket / "out" / name).write_bytes(b"precious")
    with pytest.raises(ConfigurationError, match="did not write it"):
        stored.check()
    with pytest.raises(ConfigurationError, match="did not write it"):
        store_output(stored, a="second")
    assert contents(bucket / "out")[name] == "precious"


def test_an_output_on_a_store_of_which_a_file_was_removed_is_still_the_own_one(bucket, stored, directory):
    begin(stored, directory)
    store_output(stored, a="first", b="first")
    (bucket / "out" / "a").unlink()
    stored.check()


def test_what_killed_executions_left_on_a_store_is_removed_at_the_next_start(bucket, stored, directory):
    for lease in (1, 2):
        killed = output_place(stored.output, directory, lease)
        begin(killed, directory)
        make_directory(killed.partial)
        (killed.partial / "part").write_bytes(b"torn")
    (bucket / "out.partial-another-5" / "part").write_bytes(b"torn")
    begin(output_place(stored.output, directory, 3), directory)
    assert list(contents(bucket)) == ["out.partial-another-5/part"]


def test_a_store_that_takes_no_files_says_so_before_anything_is_written(stored, directory, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    begin(stored, directory)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(RunError, match="cannot be reached \\(Access Denied\\)"):
        make_directory(stored.partial)


@pytest.mark.parametrize("kill_at", range(20))
def test_a_move_that_was_killed_anywhere_is_ended_or_undone_at_the_next_start(
    bucket, stored, directory, monkeypatch, kill_at
):
    begin(stored, directory)
    old, new = {"a": "first", "b": "first"}, {"a": "second", "c": "second"}
    store_output(stored, **old)
    killer = Killer(monkeypatch, directory)
    killer.left = kill_at
    try:
        store_output(stored, **new)
        ended = True
    except (KilledError, RunError):
        ended = False
    killer.left = None
    again = output_place(bucket / "out", directory, 1)
    again.check()
    begin(again, directory)
    assert contents(bucket / "out") == (old if kill_at < 2 else new)  # the manifest is change 1
    assert contents(bucket).keys() == {f"out/{name}" for name in contents(bucket / "out")}
    again.check()
    assert ended or kill_at < 13  # the kills reach from the first change to the last


def test_a_move_during_which_the_store_fails_keeps_its_files_for_the_next_start(bucket, stored, directory, monkeypatch):
    begin(stored, directory)
    killer = Killer(monkeypatch, directory)
    killer.left = 3
    with pytest.raises(RunError, match="run the same command to end that"):
        store_output(stored, a="first", b="first")
    killer.left = None
    stored.discard()
    begin(output_place(bucket / "out", directory, 1), directory)
    assert contents(bucket) == {"out/a": "first", "out/b": "first"}


def test_a_move_whose_files_were_taken_away_leaves_what_is_there(bucket, stored, directory, monkeypatch):
    begin(stored, directory)
    killer = Killer(monkeypatch, directory)
    killer.left = 2
    with pytest.raises((KilledError, RunError)):
        store_output(stored, a="first", b="first")
    killer.left = None
    bucket.fs.rm(stored.partial.path, recursive=True)
    again = output_place(bucket / "out", directory, 1)
    again.check()
    begin(again, directory)
    store_output(again, a="second")
    assert contents(bucket) == {"out/a": "second"}
