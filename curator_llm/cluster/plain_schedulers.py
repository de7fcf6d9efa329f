"""Schedulers that others on the network can reach, and that speak without TLS: said once for each."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

_warned: set[str] = set()


def warning_of_plain_scheduler(client: Any) -> str | None:
    """Return what to say of a scheduler beyond this machine that is reached without TLS; None when it has been said.

    Who reaches a scheduler can run code on its workers, where the keys are.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    """
    address = str(client.scheduler.address)
    parts = urlsplit(address)
    if parts.scheme not in {"tcp", "ws", "ucx"} or _is_here(parts.hostname or "") or address in _warned:
        return None
    _warned.add(address)
    return (
        f"The scheduler at {address} can be reached from other machines and speaks without TLS: whoever connects can "
        "run code on the workers, with the keys they hold. Give the cluster TLS (dask.distributed.Security, or "
        "distributed.comm.tls in Dask's configuration), or keep its network closed."
    )


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
