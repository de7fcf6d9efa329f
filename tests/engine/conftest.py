"""A module of the user's, which makes clients."""

from __future__ import annotations

import sys
import types

import pytest

from curator_llm import runtime


@pytest.fixture
def house(monkeypatch):
    """Stand for a module of the user's; the engine that made its clients ends with the test."""
    module = types.ModuleType("house")
    monkeypatch.setitem(sys.modules, "house", module)
    runtime.close()
    yield module
    runtime.close()
