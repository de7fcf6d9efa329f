"""Transports turn a Request into a Reply or a Fault, under a deadline and a size cap, and never raise."""

from __future__ import annotations

from typing import Protocol

from curator_llm.wire.exchange import Fault, Reply, Request


class Transport(Protocol):
    """What a line sends through."""

    @property
    def key_version(self) -> int:
        """Grows when `refresh_key` has looked for another key."""

    @property
    def has_spare(self) -> bool:
        """Whether an address is left that has not just failed: then a failure is no outage."""

    def refresh_key(self, version: int) -> bool:
        """Look for the key again, unless that was done since `version`; tell whether there is another. May block."""

    def check(self, request: Request) -> None:
        """Refuse what cannot be sent this way, before anything is.

        Raises
        ------
        ConfigurationError
        """

    async def send(self, request: Request) -> Reply | Fault:
        """Send once. Must never raise, and must let go of the connection at its deadline."""

    async def close(self) -> None:
        """Let connections go; what is in flight ends as a fault."""
