"""Addresses of servers: what a base URL may be, and the origin that names who answers."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from curator_llm.errors import ConfigurationError

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_ORIGIN = "https://api.openai.com"

#: Names that resolve inside a site or a Kubernetes cluster only.
_PRIVATE_SUFFIXES = (".svc", ".local", ".internal", ".localhost")
#: Where machines of clouds get their credentials: AWS, GCP, Azure; containers on AWS; Alibaba.
_METADATA = frozenset({"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "100.100.100.200"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_KEY_IN_PATH = re.compile(r"\bsk-[\w-]{8,}")
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+(%\w+)?", re.IGNORECASE)
#: Browsers and HTTP libraries read such a host as an IPv4 address: 134744072 is 8.8.8.8.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def origin_of(url: str) -> str:
    """Return ``scheme://host[:port]`` of a checked URL, the default port left out.

    Examples
    --------
    >>> origin_of("http://vllm.ml.svc:8000/v1")
    'http://vllm.ml.svc:8000'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if parts.port in {None, default} else f":{parts.port}")


def check_base_url(url: str, *, allow_http: bool) -> str:
    """Return the URL without a trailing slash.

    Raises
    ------
    ConfigurationError
        When it is no http(s) URL, carries a user name, a key, a query or a fragment, is plain http to a public host,
        or is where a cloud keeps credentials.
    """
    if not isinstance(url, str):
        msg = f"`base_url` is a {type(url).__name__}: give a URL such as 'http://localhost:8000/v1', or a list of them."
        raise ConfigurationError(msg)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    valid = parts.scheme in {"http", "https"} and _HOST.fullmatch(host) is not None
    valid = valid and url.isprintable() and " " not in url
    if "@" in (parts.netloc if valid else url):
        msg = "`base_url` carries a user name or password: remove it and pass the key as api_key='env:NAME'."
        raise ConfigurationError(msg)
    shown = re.split(r"[?#]", url, maxsplit=1)[0]  # what follows may be a secret
    if not valid:
        msg = f"`base_url` is {shown!r}: give a URL such as 'http://localhost:8000/v1'."
        raise ConfigurationError(msg)
    if shown != url:
        msg = f"`base_url` has a query or fragment after {shown!r}: give the part before it."
        raise ConfigurationError(msg)
    if _KEY_IN_PATH.search(url):
        msg = (
            "`base_url` has a key in it: remove it and pass it as api_key='env:NAME'. A server that takes it nowhere "
            "else is reached by a client of your own: client='pkg.mod:factory'."
        )
        raise ConfigurationError(msg)
    if _is_metadata(host):
        msg = (
            f"`base_url` is {host!r}, where machines of a cloud get their credentials: no model answers there. Give "
            "the address of a model server."
        )
        raise ConfigurationError(msg)
    if parts.scheme == "http" and not allow_http and not is_private(host):
        msg = (
            f"`base_url` is plain http to the public host {host!r}: prompts and key would be readable on the way. "
            "Use https, or pass allow_http=True if the network is yours."
        )
        raise ConfigurationError(msg)
    return url.rstrip("/")


def _is_metadata(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() in _METADATA_NAMES
    return str(getattr(address, "ipv4_mapped", None) or address) in _METADATA


def is_private(host: str) -> bool:
    """Tell whether a host is on this machine or inside a site: loopback, private, dotless, ``.svc`` and the like.

    Examples
    --------
    >>> [is_private(host) for host in ("localhost", "10.0.0.7", "vllm.ml.svc", "example.com", "8.8.8.8")]
    [True, True, True, False, False]
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            return False
        return "." not in name or name.endswith(_PRIVATE_SUFFIXES)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_private
