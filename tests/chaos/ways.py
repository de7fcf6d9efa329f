"""Endpoints that reach one server in each of the ways there are."""

from __future__ import annotations

import itertools
import sys
import types
from types import TracebackType
from typing import Any, Self

import openai
import pytest

from curator_llm import Endpoint, runtime
from curator_llm.services import AsyncOpenAIClient, OpenAIClient

KEY = "sk-CANARY-77f0a1c2"


class Wrapped(AsyncOpenAIClient):
    """A client of one's own, which is not taken apart."""


class Ways:
    """Makes endpoints by the name of their way; a context, because factories have to stand in a module."""

    def __init__(self) -> None:
        self._module = types.ModuleType("clients_of_this_run")
        self._numbers = itertools.count()  # an engine makes each client once
        # Not mock.patch.dict: it puts the whole dictionary back, and what was imported meanwhile is imported twice.
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        self._patch.setitem(sys.modules, self._module.__name__, self._module)
        self._patch.setenv("TEAM_KEY", KEY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runtime.close()  # a later module's function may have the same name
        self._patch.undo()

    def endpoint(self, way: str, base_url: str, *, http_client: Any = None, **arguments: Any) -> Endpoint:
        """Return an endpoint that reaches a server this way."""
        if way == "base_url":
            return Endpoint("m", base_url=base_url, api_key="env:TEAM_KEY", **arguments)
        sdk = {"api_key": KEY, "base_url": base_url, "max_retries": 0}
        factories = {
            "sdk": lambda: openai.AsyncOpenAI(**sdk, http_client=http_client),
            "async client": lambda: Wrapped(openai.AsyncOpenAI(**sdk)),
            "sync client": lambda: OpenAIClient(openai.OpenAI(**sdk)),
        }
        name = f"client_{next(self._numbers)}"
        setattr(self._module, name, factories[way])
        return Endpoint("m", client=f"{self._module.__name__}:{name}", **arguments)
