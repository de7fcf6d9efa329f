"""Settings: the ``curator-llm`` namespace of :mod:`dask.config`, and durations as Dask writes them.

The defaults stand in ``curator-llm.yaml`` beside this file, each with its reason. Users change them in their Dask
configuration, with ``dask.config.set`` or with environment variables such as ``DASK_CURATOR_LLM__JOURNAL__PATH``.
What must be equal on all workers travels with the stage, not here.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import dask.config
import yaml
from dask.utils import parse_timedelta

from curator_llm.errors import ConfigurationError

_DEFAULTS = Path(__file__).with_name("curator-llm.yaml")
#: Dask knows "m" and "minutes", but not the usual short form.
_MIN = re.compile(r"(?<![a-z])mins?\s*$", re.IGNORECASE)


def load_defaults() -> None:
    """Put the packaged defaults below the user's own Dask configuration."""
    dask.config.update_defaults(yaml.safe_load(_DEFAULTS.read_text(encoding="utf-8")))


def get(name: str) -> Any:
    """Return a setting of the ``curator-llm`` namespace, for example ``"journal.path"``."""
    return dask.config.get(f"curator-llm.{name}")


def parse_duration(value: str | float, name: str) -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    value : str or float
        Seconds, or a Dask duration string such as ``"10 minutes"`` or ``"500ms"``; ``"10min"`` is read as well.
    name : str
        What the duration is for, for the message.

    Raises
    ------
    ConfigurationError
        When it cannot be read, is not above zero, or has no end.

    Examples
    --------
    >>> parse_duration("10min", "timeout")
    600.0
    """
    try:
        seconds = float(parse_timedelta(_MIN.sub("m", value) if isinstance(value, str) else value))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        msg = f"`{name}` is {value!r}: give seconds above 0 or a duration such as '90s' or '10min'."
        raise ConfigurationError(msg)
    return seconds
