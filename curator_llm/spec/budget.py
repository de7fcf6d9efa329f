"""The most a run may spend."""

from __future__ import annotations

from dataclasses import dataclass

from curator_llm.errors import ConfigurationError
from curator_llm.spec.checks import check_count, check_limit, check_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most a run may spend, over all its restarts.

    Parameters
    ----------
    max_cost_usd : float, optional
        US dollars, by the endpoint's price.
    max_total_tokens : int, optional
        Input and output tokens.
    max_requests : int, optional
        Requests sent, each try included, whatever came back.
    name : str, optional
        What was spent under a name counts for all that is asked under it, as long as the journal is the same one.
        Default: a name made of what the stage asks; in a job, the run.

    Raises
    ------
    ConfigurationError
        When nothing is limited, or a limit is not a number above zero.

    Notes
    -----
    What a request may cost at the worst is set aside before it is sent, and what it did not cost comes back: a token
    has a byte of the body at least, a reply is as long as ``max_tokens`` allows. Where a server does not say what it
    charged, or broke off, the worst counts. So the limit holds over all workers, restarts and kills, as far as the
    server keeps to ``max_tokens`` and counts images as text. Rows that are not asked any more are ``not_attempted``.

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
        if self.name is not None:
            check_text("name", self.name)

    @property
    def limits(self) -> dict[str, float]:
        """What is limited: requests, tokens, usd."""
        limits = {"requests": self.max_requests, "tokens": self.max_total_tokens, "usd": self.max_cost_usd}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def __str__(self) -> str:
        """Return the limits as people write them.

        Examples
        --------
        >>> str(Budget(max_cost_usd=50, max_requests=1000))
        '$50.00 and 1,000 requests'
        """
        parts = [] if self.max_cost_usd is None else [f"${self.max_cost_usd:,.2f}"]
        parts += [] if self.max_total_tokens is None else [f"{self.max_total_tokens:,} tokens"]
        parts += [] if self.max_requests is None else [f"{self.max_requests:,} requests"]
        return " and ".join(parts)
