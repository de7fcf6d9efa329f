"""Secrets, resolved where they are used: on the worker, from references. They never leave this process."""

from __future__ import annotations

import importlib
import os
import platform
import threading
from pathlib import Path
from typing import NoReturn

from curator_llm.engine.redaction import Redaction
from curator_llm.errors import AuthenticationError
from curator_llm.spec.endpoint import Endpoint
from curator_llm.spec.secrets import SecretRef


class Secret(str):
    """A secret as text that shows itself nowhere and does not travel: tracebacks may tell the values of variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, _: object) -> NoReturn:
        msg = "a secret does not leave its process"
        raise TypeError(msg)


class Credentials:
    """The headers of an endpoint's requests, secrets filled in.

    Parameters
    ----------
    endpoint : Endpoint

    Raises
    ------
    AuthenticationError
        When a reference leads nowhere on this machine.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.redaction = Redaction()
        self._refreshing = threading.Lock()
        #: How often a refresh has looked: of a burst of refusals, the first one looks for all that were sent before.
        self.version = 0
        self._changed_at = 0
        self.headers = self._resolve()

    def refresh(self, version: int) -> bool:
        """Resolve again, unless that was done since `version`; tell whether there are other secrets since then.

        Thread-safe.
        """
        with self._refreshing:
            if self.version == version:
                headers = self._resolve()
                self.version += 1
                if headers != self.headers:
                    self.headers, self._changed_at = headers, self.version
            return self._changed_at > version

    def _resolve(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "curator-llm"}
        secrets: list[str] = []
        for name, value in (self._endpoint.headers or {}).items():
            headers[name] = value
            if value.startswith(("env:", "file:", "callable:")):
                headers[name] = resolve(SecretRef.parse(value, what=f"headers[{name!r}]"))
                secrets.append(headers[name])
        if self._endpoint.api_key is not None:
            key = resolve(SecretRef.parse(self._endpoint.api_key, what="api_key"))
            headers["authorization"] = Secret(f"Bearer {key}")
            secrets.append(key)
        self.redaction.add(secrets)
        return headers

    def __repr__(self) -> str:
        return f"Credentials({self._endpoint.api_key or 'no key'})"


def resolve(reference: SecretRef) -> Secret:
    """Return the secret behind a reference.

    Raises
    ------
    AuthenticationError
        When there is none here, or it cannot stand in a header.
    """
    here = f"on {platform.node() or 'this machine'} (process {os.getpid()})"
    match reference.kind:
        case "env":
            secret = Secret(os.environ.get(reference.target) or "")
            missing = f"The environment variable {reference.target} is not set {here}. Set it on every worker"
        case "file":
            try:
                secret = Secret(Path(reference.target).expanduser().read_text(encoding="utf-8"))
            except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home directory
                secret = Secret()
            missing = f"The key file {reference.target} cannot be read {here}. Put it there on every worker"
        case "callable":
            secret = _call(reference, here)
            missing = f"{reference.target} gave no text {here}. Let it return the key"
    secret = Secret(secret.strip())
    if not secret:
        msg = f"{missing}, not only on the client, or pass another reference."
        raise AuthenticationError(msg)
    if not secret.isascii() or not secret.isprintable():
        msg = f"The secret behind {reference} {here} holds characters no header can carry: check what is stored there."
        raise AuthenticationError(msg)
    return secret


def _call(reference: SecretRef, here: str) -> Secret:
    module, _, name = reference.target.partition(":")
    try:
        given = getattr(importlib.import_module(module), name)()
    except Exception as error:  # noqa: BLE001  a user's function may raise anything, and its message may hold the secret
        msg = f"{reference} raised {type(error).__name__} {here}. Call it there by hand to see why."
        raise AuthenticationError(msg) from None
    return Secret(given if isinstance(given, str) else "")
