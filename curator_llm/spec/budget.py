"""The most a run may spend."""

from __future__ import annotations

from dataclasses import dataclass

from curator_llm.errors import ConfigurationError
from curator_llm.spec.checks import check_count, check_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most a run may spend, over all its restarts.

    Parameters
    ----------
    max_cost_usd : float, optional
    max_total_tokens : int, optional
    max_requests : int, optional
    name : str, optional
        Runs with one name share one budget.

    Raises
    ------
    ConfigurationError
        When nothing is limited, or a limit is not a number above zero.

    Examples
    --------
    >>> Budget(max_requests=1000)
    Budget(max_cost_usd=None, max_total_tokens=None, max_requests=1000, name=None)
    """

    max_cost_usd: float | None = None
    max_total_tokens: int | None = None
    max_requests: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        check_limit("max_cost_usd", self.max_cost_usd)
        for name in ("max_total_tokens", "max_requests"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.max_cost_usd is None and self.max_total_tokens is None and self.max_requests is None:
            msg = "A Budget without a limit: give max_cost_usd, max_total_tokens or max_requests."
            raise ConfigurationError(msg)
