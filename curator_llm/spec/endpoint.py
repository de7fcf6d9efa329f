"""An Endpoint: which model, where, whose key, within which limits."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curator_llm.config import parse_duration
from curator_llm.errors import ConfigurationError
from curator_llm.spec.addresses import OPENAI_BASE_URL, OPENAI_ORIGIN, check_base_url, origin_of
from curator_llm.spec.checks import check_count, check_limit, check_text, checked_extra_body, is_number
from curator_llm.spec.factories import check_factory
from curator_llm.spec.html import html_table
from curator_llm.spec.secrets import NO_KEY_WORDS, SecretRef

#: Names of headers that may carry a secret.
SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"(bearer|basic)\s|sk-", re.IGNORECASE)
#: What a client knows by itself.
_OF_THE_CLIENT = ("base_url", "api_key", "headers", "allow_http", "ca_file", "proxy")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Limits:
    """Whose quota, and how much of it.

    Parameters
    ----------
    scope : str
        Whose quota; all lines of one scope share it.
    max_concurrent_requests : int
        Requests in flight at one moment, of all workers of a cluster together.
    max_requests_per_minute, max_tokens_per_minute : float or None
        None is no limit.
    """

    scope: str
    max_concurrent_requests: int
    max_requests_per_minute: float | None = None
    max_tokens_per_minute: float | None = None


@dataclass(frozen=True, repr=False)
class Endpoint:
    """A model behind an OpenAI-compatible server. Frozen, holds no secret, travels in graphs.

    Parameters
    ----------
    model : str
        As the server calls it; on Azure the deployment.
    base_url : str or list of str, optional
        Default ``OPENAI_BASE_URL`` if set, else the OpenAI API; taken when the Endpoint is made. A list is replicas of
        one model: each request goes to the one with the fewest in flight.
    api_key : str, optional
        Where the key is found on the worker: ``"env:NAME"``, ``"file:~/path"``, ``"callable:pkg.mod:function"``;
        ``"EMPTY"`` for none. Default ``"env:OPENAI_API_KEY"`` for the OpenAI API, none elsewhere. A key itself is
        refused.
    name, revision : str, optional
        Who answers, for the journal: replies are kept per name and revision. `name` defaults to the origin of the
        (first) address, or to `client`; give one when the address changes and the answers do not.
    client : str, optional
        Where a function without arguments is found that makes the client: ``"pkg.mod:factory"``, importable on every
        worker, called once in each worker process. It knows address, key and proxy, so those are not given here. It
        returns a new client at each call, as it is closed with the worker, and that is one of:

        - an ``openai.AsyncOpenAI`` (``AsyncAzureOpenAI`` and gateways: the same) or an `AsyncOpenAIClient` around one:
          nothing is lost, and the SDK's own retries and timeout are not used;
        - any other `AsyncLLMClient` or `LLMClient`. It tells texts and scores, so finish reason, usage, model and
          request id are null, and its parameters are those of its ``query_model``. What blocks runs in up to 64
          threads of a worker, each held until its call ends, also beyond `timeout`. Make it without retries of its own
          (``max_retries=0``): the stage retries, and counts.
    max_concurrent_requests : int, default 256
        Requests in flight at one moment, of all workers of a cluster together.
    max_requests_per_minute, max_tokens_per_minute : float, optional
        The quota; no limit by default. Tokens are estimated before sending and settled by what the server reports.
    scope : str, optional
        Whose quota it is. Default: origin, model and key reference.
    timeout : str or float, default "10min"
        Wall clock of one attempt, from connecting to the last byte; in seconds or as ``"90s"``.
    row_deadline : str or float, default "1h"
        From a row's first send, waiting for quotas not counted; then the row is ``failed``.
    max_attempts : int, default 5
        Attempts of a row that end in errors of the server or the network; throttled ones are not counted. While a
        server fails more than one attempt in sixteen, a row has as many as make giving up by chance improbable (one in
        a million), at most four times this; attempts that may be billed stay within it, timeouts within two. 1 is 1.
    headers : mapping of str to str, optional
        Sent with each request; secrets as references, like `api_key`. Part of who answers.
    extra_body : mapping, optional
        Sent with each request, below the stage's own ``generation.extra_body``.
    price_usd : (float, float), optional
        US dollars for a million input and output tokens.
    allow_http : bool, default False
        Allow plain http to a public host.
    ca_file : str, optional
        PEM file of a private certificate authority, on every worker.
    proxy : str, optional
        URL of a proxy, or ``"env"`` for HTTP_PROXY and HTTPS_PROXY; by default none is used.

    Raises
    ------
    ConfigurationError
        Now, for anything that cannot work: a literal key, plain http to a public host, limits that are not above 0.
        When rows are asked, for a `client` that cannot be made or used on a worker.

    Examples
    --------
    >>> Endpoint("qwen3-32b", base_url="http://vllm.ml.svc:8000/v1", max_concurrent_requests=2048)
    Endpoint('qwen3-32b', base_url='http://vllm.ml.svc:8000/v1', max_concurrent_requests=2048)
    """

    model: str
    _: dataclasses.KW_ONLY
    base_url: str | tuple[str, ...] | None = None
    api_key: str | None = None
    name: str | None = None
    revision: str | None = None
    client: str | None = None
    max_concurrent_requests: int = 256
    max_requests_per_minute: float | None = None
    max_tokens_per_minute: float | None = None
    scope: str | None = None
    timeout: float = 600.0
    row_deadline: float = 3600.0
    max_attempts: int = 5
    headers: Mapping[str, str] | None = None
    extra_body: Mapping[str, Any] | None = None
    price_usd: tuple[float, float] | None = None
    allow_http: bool = False
    ca_file: str | None = None
    proxy: str | None = None

    def __post_init__(self) -> None:
        if self.client is not None:
            self._check_client()
        for name in ("model", "name", "revision", "scope"):
            if name == "model" or getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        self._set("base_url", self._checked_urls())
        self._set("api_key", self._checked_key())
        self._set("headers", self._checked_headers())
        self._set("extra_body", checked_extra_body(self.extra_body))
        self._set("price_usd", self._checked_price())
        for name in ("timeout", "row_deadline"):
            self._set(name, parse_duration(getattr(self, name), name))
        for name in ("max_concurrent_requests", "max_attempts"):
            check_count(name, getattr(self, name))
        for name in ("max_requests_per_minute", "max_tokens_per_minute"):
            check_limit(name, getattr(self, name))
        if self.proxy not in {None, "env"} and ("@" in str(self.proxy) or "://" not in str(self.proxy)):
            msg = (
                "`proxy` is no URL such as 'http://proxy:3128', or carries a password: then set HTTP_PROXY and "
                "HTTPS_PROXY on every worker and pass proxy='env'."
            )
            raise ConfigurationError(msg)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_client(self) -> None:
        check_factory(self.client)
        given = [name for name in _OF_THE_CLIENT if getattr(self, name)]
        if given:
            msg = (
                f"`client` and `{given[0]}` are both given: the client knows its address, key and proxy. "
                f"Leave `{given[0]}` out and set it where {self.client} makes the client."
            )
            raise ConfigurationError(msg)

    def _checked_urls(self) -> str | tuple[str, ...] | None:
        if self.client is not None:
            return None
        urls = (os.environ.get("OPENAI_BASE_URL") or OPENAI_BASE_URL) if self.base_url is None else self.base_url
        if isinstance(urls, list | tuple) and urls:
            return tuple(check_base_url(url, allow_http=self.allow_http) for url in urls)
        return check_base_url(urls, allow_http=self.allow_http)  # type: ignore[arg-type]  # refuses what is no text

    def _checked_key(self) -> str | None:
        if self.api_key is None:
            return "env:OPENAI_API_KEY" if self.origins == (OPENAI_ORIGIN,) else None
        if not isinstance(self.api_key, str):
            msg = f"`api_key` is a {type(self.api_key).__name__}: give the text 'env:NAME', 'file:~/path' or 'EMPTY'."
            raise ConfigurationError(msg)
        if self.api_key.strip().lower() in {*NO_KEY_WORDS, ""}:
            return None
        return str(SecretRef.parse(self.api_key, what="api_key"))

    def _checked_headers(self) -> dict[str, str]:
        checked: dict[str, str] = {}
        if not isinstance(self.headers or {}, Mapping):
            msg = f"`headers` is a {type(self.headers).__name__}: give a dict of names and values."
            raise ConfigurationError(msg)
        for name, value in (self.headers or {}).items():
            texts = isinstance(name, str) and isinstance(value, str)
            if not texts or not _HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
                msg = (
                    f"`headers` has a name or value that no request can carry, at {name!r}: give printable ASCII text."
                )
                raise ConfigurationError(msg)
            if SECRET_HEADER.search(name) or _SECRET_VALUE.match(value):
                SecretRef.parse(value, what=f"headers[{name!r}]")
            checked[name.lower()] = value
        return dict(sorted(checked.items()))

    def _checked_price(self) -> tuple[float, float] | None:
        price: Any = self.price_usd
        if price is None:
            return None
        pair = isinstance(price, list | tuple) and len(price) == 2
        if not pair or not all(is_number(value) and value >= 0 for value in price):
            msg = f"`price_usd` is {price!r}: give (input, output), in US dollars for a million tokens."
            raise ConfigurationError(msg)
        return (float(price[0]), float(price[1]))

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The addresses, one or more; none with a `client`."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url or ()

    @property
    def origins(self) -> tuple[str, ...]:
        """``scheme://host[:port]`` of each address."""
        return tuple(origin_of(url) for url in self.base_urls)

    @property
    def address(self) -> str:
        """Where requests go, for messages: the addresses, or who makes the client that knows them."""
        return " or ".join(self.base_urls) or f"the client of {self.client}"

    @property
    def _origin(self) -> str:
        """What stands for who answers and whose quota it is, unless told."""
        return f"client:{self.client}" if self.client else self.origins[0]

    @property
    def identity(self) -> str:
        """Who answers; part of each row's key."""
        headers = [f"{name}: {value}" for name, value in (self.headers or {}).items()]
        return "\n".join([self.name or self._origin, self.revision or "", *headers])

    @property
    def limits(self) -> Limits:
        """Whose quota, and how much of it."""
        return Limits(
            scope=self.scope
            or "|".join([self._origin, self.model, *([] if self.client else [self.api_key or "no key"])]),
            max_concurrent_requests=self.max_concurrent_requests,
            max_requests_per_minute=self.max_requests_per_minute,
            max_tokens_per_minute=self.max_tokens_per_minute,
        )

    def _shown(self) -> list[tuple[str, object]]:
        """Return what a reader wants to see: the address, and what is not as usual. Keys are references."""
        shown: list[tuple[str, object]] = [] if self.client else [("base_url", self.base_url)]
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if value != field.default and value not in ({}, None):
                shown.append((field.name, value))
        return shown

    def __repr__(self) -> str:
        shown = [repr(self.model), *(f"{name}={value!r}" for name, value in self._shown())]
        return f"Endpoint({', '.join(shown)})"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        rows = {"max_concurrent_requests": self.max_concurrent_requests, **dict(self._shown())}
        rows["who answers"] = self.identity.partition("\n")[0]
        return html_table(f"Endpoint {self.model}", rows.items())
