"""The exceptions: how they are related, and what they carry."""

from __future__ import annotations

import ast
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
import tblib.pickling_support

import curator_llm
from curator_llm import errors

PACKAGE = Path(curator_llm.__file__).parent
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def raised_in_handlers(tree: ast.AST) -> Iterator[ast.Raise]:
    """Yield what is raised while an exception is handled, functions defined there left out."""
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler):
            waiting: list[ast.AST] = list(handler.body)
            while waiting:
                node = waiting.pop()
                if isinstance(node, ast.Raise):
                    yield node
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                    waiting += ast.iter_child_nodes(node)


def is_alone(node: ast.Raise) -> bool:
    return node.exc is None or (isinstance(node.cause, ast.Constant) and node.cause.value is None)


@pytest.mark.parametrize(
    ("code", "alone"), [("raise", True), ("raise A from None", True), ("raise A", False), ("raise A from e", False)]
)
def test_a_raise_with_a_cause_or_a_context_is_told_from_one_without(code: str, alone: bool) -> None:
    (found,) = raised_in_handlers(ast.parse(f"try: pass\nexcept E as e:\n if x:\n  {code}"))
    assert is_alone(found) is alone


def test_whatever_is_raised_while_an_exception_is_handled_is_raised_from_none() -> None:
    found = [(path, node) for path in PACKAGE.rglob("*.py") for node in raised_in_handlers(ast.parse(path.read_text()))]
    assert len(found) > 50
    assert [f"{path.name}:{node.lineno}" for path, node in found if not is_alone(node)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_holds_plain_fields(kind: type[errors.CuratorLLMError]) -> None:
    error = kind("what is wrong")
    assert {type(value) for value in (*error.args, *vars(error).values())} <= {str, int, float}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_takes_along_nothing_of_what_it_was_raised_for(kind: type[errors.CuratorLLMError]) -> None:
    with pytest.raises(kind) as raised:
        raise_for_a_secret(kind)
    error = raised.value
    tblib.pickling_support.install(error)  # as Dask does with each exception of a task
    assert error.__cause__ is error.__context__ is None
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "CANARY" not in "".join(shown.format())
    for pickler in (pickle, cloudpickle):
        sent = pickler.dumps(error)
        assert b"CANARY" not in sent
        assert str(pickle.loads(sent)) == "what is wrong"


def raise_for_a_secret(kind: type[errors.CuratorLLMError]) -> None:
    try:
        int("sk-CANARY")
    except ValueError:
        raise kind("what is wrong") from None


def test_every_error_stands_in_the_picture_of_the_module() -> None:
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in (errors.__doc__ or "").split()] == []


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


def test_every_error_travels_between_processes_with_its_message_alone() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) > 10
    for kind in kinds:
        error = pickle.loads(pickle.dumps(kind("what is wrong")))
        assert (type(error), str(error), error.args, vars(error)) == (
            kind,
            "what is wrong",
            ("what is wrong",),
            {"message": "what is wrong"},
        )
