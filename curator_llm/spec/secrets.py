"""References to secrets: where a key is found, never the key.

A reference is text (``env:NAME``, ``file:~/path``, ``callable:pkg.mod:fn``) and may travel in graphs, pickles and logs.
It is resolved on the worker, by ``engine.credentials``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from curator_llm.errors import ConfigurationError

SecretKind = Literal["env", "file", "callable"]

#: Values that vLLM and other servers document as "no key".
NO_KEY_WORDS = frozenset({"empty", "none"})

#: What a target looks like; keys have other characters, such as the dashes of ``sk-...``.
_TARGETS = {
    "env": re.compile(r"[A-Za-z_]\w*"),
    "file": re.compile(r"(?!sk-).+"),
    "callable": re.compile(r"[\w.]+:[\w.]+"),
}
#: Fields of a body, and texts in it, that are secrets; a schema may well describe a password.
_SECRET_FIELD = re.compile(
    r"(api|access|secret|private|account|subscription)[_-]?key(_id)?$|authorization$|passw(or)?d$|secret$|credentials?$"
    r"|(access|auth|bearer|session|security|refresh)[_-]?token$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"\bsk-[\w-]{8,}|\bbearer\s+\S{8,}", re.IGNORECASE)


def refuse_secrets(value: Any, what: str) -> None:
    """Refuse a secret in what is sent as the body, however deep, without repeating it.

    Raises
    ------
    ConfigurationError
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, str) and inner and _SECRET_FIELD.search(name):
                raise ConfigurationError(_IN_BODY.format(what=f"{what}.{name}"))
            refuse_secrets(inner, f"{what}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_secrets(inner, what)
    elif isinstance(value, str) and _SECRET_TEXT.search(value):
        raise ConfigurationError(_IN_BODY.format(what=what))


_IN_BODY = (
    "`{what}` looks like a secret; a body travels in graphs and logs, and holds no references. Give the secret to the "
    "Endpoint instead, as api_key='env:NAME' or api_key='file:~/path', or so in its `headers`."
)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is found.

    Parameters
    ----------
    kind : {"env", "file", "callable"}
        An environment variable, the text of a file, or a function without arguments.
    target : str
        ``NAME``, ``~/path`` or ``pkg.mod:fn``.

    Examples
    --------
    >>> SecretRef.parse("env:OPENAI_API_KEY", what="api_key")
    env:OPENAI_API_KEY
    """

    kind: SecretKind
    target: str

    @classmethod
    def parse(cls, text: str, *, what: str) -> SecretRef:
        """Read a reference; refuse a literal secret, without repeating it.

        Raises
        ------
        ConfigurationError
            When the text is not a reference.
        """
        kind, _, target = text.partition(":")
        if kind in _TARGETS and _TARGETS[kind].fullmatch(target):
            return cls(cast("SecretKind", kind), target)
        if kind == "callable":
            msg = f"`{what}` starts with 'callable:' but names no function: write 'callable:pkg.mod:function'."
            raise ConfigurationError(msg)
        msg = (
            f"`{what}` looks like a secret itself; it would travel in graphs, logs and notebooks. Either set an "
            f"environment variable on every worker and pass {what}='env:NAME', or write it to a file that only you can "
            f"read and pass {what}='file:~/path'."
        )
        raise ConfigurationError(msg)

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"

    __repr__ = __str__
