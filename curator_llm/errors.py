"""The exceptions of curator_llm.

::

    CuratorLLMError
    ├ ConfigurationError (ValueError)     what was asked for cannot be built; raised before anything is sent
    │ ├ PromptError                       a prompt template is wrong
    │ ├ MissingColumnError                a column the stage reads is not in the frame
    │ └ JobFileError                      a job file is wrong
    ├ RunError                            what is wrong is wrong for every row: the run stops
    │ ├ AuthenticationError               the key was refused (401, 403)
    │ ├ ModelNotFoundError                the server does not know the model or the path (404)
    │ ├ QuotaExceededError                the account has no money left
    │ ├ RequestRefusedError               the server refuses what stands in every request (a schema, say)
    │ ├ EndpointUnreachableError          no server answered, or it cannot be trusted (refused, DNS, TLS, redirect)
    │ ├ JournalError                      replies cannot be stored
    │ ├ RunTakenOverError                 another process works in the run directory now
    │ └ EngineError                       the engine of this process ended
    └ RowsFailedError                     more rows failed than the stage allows

What goes wrong has one of three scopes, and only the last is an exception: an attempt (it is retried), a row (it ends
with a status), a run. `curator_llm.wire.verdicts` tells which for all that a server or a library does.

Every exception holds only ``str``, ``int`` and ``float`` (a key cannot hide in one), survives ``pickle`` and
``cloudpickle``, and is raised ``from None`` with no context: the exceptions of HTTP libraries carry the request, and
with it the API key.
"""

from __future__ import annotations


class CuratorLLMError(Exception):
    """Base class of every exception of this package.

    Parameters
    ----------
    message : str
        What is wrong, with the value, and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def __context__(self) -> None:
        """Nothing: ``from None`` hides what an error came from, and Dask would still pickle it."""

    @__context__.setter
    def __context__(self, _: BaseException | None) -> None: ...

    def __str__(self) -> str:
        return self.message


class ConfigurationError(CuratorLLMError, ValueError):
    """What was asked for cannot be built. Raised before anything is sent."""


class PromptError(ConfigurationError):
    """A prompt template is wrong."""


class MissingColumnError(ConfigurationError):
    """A column the stage reads is not in the frame."""


class JobFileError(ConfigurationError):
    """A job file is wrong."""


class RunError(CuratorLLMError):
    """What is wrong is wrong for every row: the run stops, and what was paid for is kept."""


class AuthenticationError(RunError):
    """The server refused the key (401, 403)."""


class ModelNotFoundError(RunError):
    """The server does not know the model or the path (404)."""


class QuotaExceededError(RunError):
    """The account behind the key has no quota left (``insufficient_quota``): waiting does not help."""


class RequestRefusedError(RunError):
    """The server refuses what stands in every request: a ``response_format`` or its schema (400, 422)."""


class EndpointUnreachableError(RunError):
    """No server answered at the address, or the one that did cannot be trusted (refused, DNS, TLS, redirect)."""


class JournalError(RunError):
    """Replies cannot be stored, so none may be paid for."""


class RunTakenOverError(RunError):
    """Another process has taken over the run directory, and goes on there."""


class EngineError(RunError):
    """The engine of this process ended; nothing more is sent from here."""


class RowsFailedError(CuratorLLMError):
    """More rows failed than the stage allows (``on_error="raise"`` or ``fail_on_error``); their replies are kept."""
