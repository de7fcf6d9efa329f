"""Secrets of stores: what looks like one in a job file, and where it is found instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_CREDENTIALS = {
    "s3": "AWS_PROFILE, or ~/.aws/credentials",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "hf": "HF_TOKEN, or `hf auth login`",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_SAS_TOKEN",
}
_CREDENTIALS |= {"s3a": _CREDENTIALS["s3"], "gcs": _CREDENTIALS["gs"], "az": _CREDENTIALS["abfs"]}
_ELSEWHERE = "the environment or the configuration files of the store's own tools"

_NAMES = re.compile(
    r"secret|token|passw|passphrase|credential|signature|\bsig\b|\bsas|_sas|connection_?string|account_?key|access_?key"
    r"|api_?key|authorization|cookie|key$",
    re.IGNORECASE,
)
_VALUES = re.compile(
    r"(AKIA|ASIA)[A-Z0-9]{12}|hf_\w{20}|gh[po]_\w{20}|ya29\.|eyJ[\w-]{10}|sk-\w|-----BEGIN|Bearer |Basic "
    r"|\w+://[^/@\s]*:[^/@\s]*@"
)
#: Words that gcsfs and others take as `token`, and files that hold one.
_NO_TOKENS = re.compile(r"anon|cloud|cache|browser|google_default|.*\.json")


def credentials_of(url: str) -> str:
    """Return where the tools of a URL's store look for credentials."""
    return _CREDENTIALS.get(url.partition("://")[0].rpartition("::")[2], _ELSEWHERE)


def looks_secret(text: str) -> bool:
    """Say whether a text holds what looks like a secret."""
    return _VALUES.search(text) is not None


def secret_in_url(url: str) -> bool:
    """Say whether a URL has a password, or a signature among its parameters."""
    address = urlsplit(url)
    return bool(address.password) or any(_NAMES.search(name) for name, _ in parse_qsl(address.query))


def secret_in_options(options: Mapping[Any, Any]) -> str | None:
    """Return the dotted name of a value that looks like a secret.

    Examples
    --------
    >>> secret_in_options({"anon": False, "client_kwargs": {"aws_secret_access_key": "..."}})
    'client_kwargs.aws_secret_access_key'
    >>> secret_in_options({"profile": "team", "token": "/etc/gcs/service.json"})
    """
    for key, value in options.items():
        if isinstance(value, Mapping | list | tuple):
            inner = value if isinstance(value, Mapping) else dict(enumerate(value))
            found = secret_in_options(inner)
            if found is not None:
                return f"{key}.{found}"
        elif isinstance(value, str | int) and not isinstance(value, bool):
            harmless = str(key) == "token" and _NO_TOKENS.fullmatch(str(value))
            if not harmless and (_NAMES.search(str(key)) or looks_secret(str(value))):
                return str(key)
    return None
