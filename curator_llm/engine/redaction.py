"""Secrets out of what a server says: they must reach no column, journal, log or exception."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

_MARK = b"[redacted]"
_LOOKS_SECRET = re.compile(rb"(?:\b|(?<=%[0-9A-Fa-f]{2}))sk-[\w-]{6,}|(?<=Bearer )[^\s'\"]+")
#: In addresses: the query, where some servers take the key, and a user with a password.
_IN_ADDRESS = re.compile(rb"(?<=\?)[^\s'\"<>\\?]*=[^\s'\"<>\\]*|(?<=://)[^\s/?#'\"\\]+(?=@)")
#: Shorter values would mark ordinary words.
_SHORTEST_REDACTED = 6
_SHORTEST_CODED = 12
_HEX = re.compile("%[0-9A-F]{2}")
#: Some clients sign each request anew: what is known must not grow with the run.
_MOST_KNOWN = 64


class Redaction:
    """Replaces the secrets it was told of last, also older ones: replies to them may still be on the way."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: dict[str, set[bytes]] = {}
        self._forms: tuple[bytes, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Know these from now on: as they are, without their scheme, and as JSON, URLs and base64 write them."""
        told = dict.fromkeys(secrets)
        if told.keys() <= self._known.keys():
            return
        kept = [secret for secret in self._known if secret not in told]
        last = [*kept, *told][-_MOST_KNOWN:]
        self._known = {secret: self._known.get(secret) or _forms_of(secret) for secret in last}
        self._forms = tuple(sorted(set().union(*self._known.values()), key=len, reverse=True))

    def redact(self, data: bytes) -> bytes:
        """Return the bytes without secrets."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, _MARK)
        return data

    def redact_words(self, words: bytes) -> bytes:
        """Return what an exception says without secrets, and what may be or hold one: not all keys are known here.

        A model's text is not for this: it may speak of keys.
        """
        return _LOOKS_SECRET.sub(_MARK, _IN_ADDRESS.sub(_MARK, self.redact(words)))

    def text(self, text: str) -> str:
        """Return the words of an exception or a header likewise."""
        return self.redact_words(text.encode("utf-8", "replace")).decode()


def _forms_of(secret: str) -> set[bytes]:
    forms: set[str] = set()
    for part in _parts_of(secret):
        if len(part.strip()) >= _SHORTEST_REDACTED:
            quoted = {quote(part), quote(part, safe=""), quote_plus(part)}
            forms |= {part, *quoted, *(_HEX.sub(lambda found: found[0].lower(), words) for words in quoted)}
            forms |= {code for code in _base64_of(part.encode()) if len(code) >= _SHORTEST_CODED}
    forms |= {json.dumps(form)[1:-1] for form in forms}
    return {form.encode() for form in forms | {form.replace("/", "\\/") for form in forms}}  # PHP writes slashes so


def _parts_of(secret: str) -> Iterator[str]:
    """Yield a secret, what follows its scheme (``Bearer ...``), and the password of ``Basic ...``."""
    yield secret
    scheme, *rest = secret.split(maxsplit=1)[:2] or [""]
    yield from (words.split()[-1] for words in rest)
    if scheme.lower() == "basic" and rest:
        with contextlib.suppress(ValueError):
            yield base64.b64decode(rest[0]).decode().partition(":")[2]


def _base64_of(secret: bytes) -> Iterator[str]:
    """Yield the characters a secret has in base64, wherever in a text it begins (as in ``user:secret``)."""
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(secret)) // 6
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            yield code(bytes(before) + secret)[first:last].decode()
