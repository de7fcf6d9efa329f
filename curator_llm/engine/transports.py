"""The transports of an engine: one for each way to a server that its endpoints name."""

from __future__ import annotations

from typing import Any

from dask.utils import parse_bytes

from curator_llm import config
from curator_llm.config import parse_duration
from curator_llm.engine.transport import Transport
from curator_llm.engine.transport.client import ClientTransport
from curator_llm.engine.transport.clients import Clients
from curator_llm.engine.transport.pyreqwest import PyreqwestTransport
from curator_llm.engine.transport.sdk import SdkTransport
from curator_llm.operations.base import ClientMethod
from curator_llm.services.model_client import AsyncLLMClient, LLMClient
from curator_llm.spec.endpoint import Endpoint


class Transports:
    """Makes a transport when it is first asked for. Not thread-safe but for `prepare`: the engine's lock guards it."""

    def __init__(self) -> None:
        self._clients = Clients()
        self._transports: dict[str, Transport] = {}

    def prepare(self, endpoint: Endpoint) -> None:
        """Make the endpoint's client, if it names one: a user's function may take long, and must hold no lock up.

        Raises
        ------
        ConfigurationError
            When it cannot be made here.
        """
        if endpoint.client is not None:
            self._clients.get(endpoint.client)

    def get(self, endpoint: Endpoint, method: ClientMethod) -> Transport:
        """Return the transport of an endpoint.

        Parameters
        ----------
        endpoint : Endpoint
            Prepared.
        method : {"query_model", "query_reward_model"}
            What an `LLMClient` would be asked.

        Raises
        ------
        ConfigurationError, AuthenticationError, EngineError
            When it cannot be made here.
        """
        name = repr(
            (endpoint.base_urls, endpoint.api_key, endpoint.headers, endpoint.timeout, endpoint.ca_file, endpoint.proxy)
            if endpoint.client is None
            else (endpoint.client, endpoint.timeout, endpoint.max_concurrent_requests, method)
        )
        if name not in self._transports:
            self._transports[name] = self._make(endpoint, method)
        return self._transports[name]

    async def close(self) -> None:
        """End what is in flight, and close the clients that were made."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.close()
        await self._clients.close()

    def _make(self, endpoint: Endpoint, method: ClientMethod) -> Transport:
        max_reply_bytes = parse_bytes(config.get("engine.max-reply-bytes"))
        age_s = parse_duration(config.get("engine.connection-age"), "engine.connection-age")
        if endpoint.client is None:
            idle_s = parse_duration(config.get("engine.idle-connection"), "engine.idle-connection")
            return PyreqwestTransport(endpoint, max_reply_bytes=max_reply_bytes, idle_s=idle_s, age_s=age_s)
        client: Any = self._clients.get(endpoint.client)
        if isinstance(client, LLMClient | AsyncLLMClient):
            return ClientTransport(client, endpoint, method, max_reply_bytes=max_reply_bytes)
        return SdkTransport(client, endpoint, max_reply_bytes=max_reply_bytes, age_s=age_s)
