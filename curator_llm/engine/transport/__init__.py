"""Transports turn a Request into a Reply or a Fault, under a deadline and a size cap, and never raise."""

from __future__ import annotations

from typing import Protocol

from curator_llm.engine.credentials import Credentials
from curator_llm.wire.exchange import Fault, Reply, Request


class Transport(Protocol):
    """What a line sends through."""

    credentials: Credentials

    async def send(self, request: Request) -> Reply | Fault:
        """Send once. Must never raise, and must let go of the connection at its deadline."""

    async def close(self) -> None:
        """Let idle connections go."""
