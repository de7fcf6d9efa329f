"""The place of the output: whole or as it was before, and never what somebody else wrote."""

from __future__ import annotations

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.job.output_place import LocalPlace
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
    place.partial.mkdir(parents=True)
    (place.partial / "part").write_text(text)
    place.put_in_place(place.partial)


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
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.check()


def test_an_output_that_comes_up_during_the_run_is_not_replaced(place, directory):
    begin(place, directory)
    place.partial.mkdir()
    place.output.write_text("precious")
    with pytest.raises(ConfigurationError, match="did not write it"):
        place.put_in_place(place.partial)
    assert place.output.read_text() == "precious"


def test_what_a_killed_execution_left_is_removed_at_the_next_start(tmp_path, place, directory):
    begin(place, directory)
    partial = place.partial
    partial.mkdir()
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
