"""Schedulers that others on the network can reach, and that speak without TLS: said once for each."""

from __future__ import annotations

import ipaddress
import warnings
from typing import Any
from urllib.parse import urlsplit

_warned: set[str] = set()


def warn_of_plain_scheduler(client: Any) -> None:
    """Say once that a scheduler beyond this machine can be reached without TLS.

    Parameters
    ----------
    client : distributed.Client
        Connected.

    Warns
    -----
    UserWarning
        Who reaches a scheduler can run code on its workers, where the keys are.
    """
    address = str(client.scheduler.address)
    parts = urlsplit(address)
    if parts.scheme not in {"tcp", "ws", "ucx"} or _is_here(parts.hostname or "") or address in _warned:
        return
    _warned.add(address)
    warnings.warn(
        f"The scheduler at {address} can be reached from other machines and speaks without TLS: whoever connects can "
        "run code on the workers, with the keys they hold. Give the cluster TLS (dask.distributed.Security, or "
        "distributed.comm.tls in Dask's configuration), or keep its network closed.",
        stacklevel=3,
    )


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
