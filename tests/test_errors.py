"""The exceptions: how they are related, and what they carry."""

from __future__ import annotations

import pytest

from curator_llm import errors


@pytest.mark.parametrize(
    "kind", [errors.ConfigurationError, errors.PromptError, errors.MissingColumnError, errors.JobFileError]
)
def test_what_cannot_be_built_is_a_value_error(kind: type[errors.CuratorLLMError]) -> None:
    with pytest.raises(ValueError, match="what is wrong"):
        raise kind("what is wrong")


@pytest.mark.parametrize(
    "kind",
    [
        errors.AuthenticationError,
        errors.ModelNotFoundError,
        errors.QuotaExceededError,
        errors.RequestRefusedError,
        errors.EndpointUnreachableError,
        errors.JournalError,
        errors.RunTakenOverError,
        errors.EngineError,
    ],
)
def test_what_stops_a_run_is_a_run_error_and_no_value_error(kind: type[errors.CuratorLLMError]) -> None:
    assert issubclass(kind, errors.RunError)
    assert not issubclass(kind, ValueError)


def test_failed_rows_do_not_pass_for_a_run_that_cannot_go_on() -> None:
    assert not issubclass(errors.RowsFailedError, errors.RunError)


def test_an_error_shows_its_message_and_nothing_else() -> None:
    error = errors.PromptError("a single '{' stands at character 3")
    assert str(error) == error.message == "a single '{' stands at character 3"
