"""Secrets out of what a server says: they must reach no column, journal, log or exception."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_MARK = b"[redacted]"
_LOOKS_SECRET = re.compile(rb"\bsk-[\w-]{6,}|(?<=Bearer )[^\s'\"]+")
#: In addresses: the query, where some servers take the key, and a user with a password.
_IN_ADDRESS = re.compile(rb"(?<=\?)[^\s'\"<>\\?]*=[^\s'\"<>\\]*|(?<=://)[^\s/?#'\"\\]+(?=@)")
#: Shorter values would mark ordinary words.
_SHORTEST_REDACTED = 6
#: Some clients sign each request anew: what is known must not grow with the run.
_MOST_KNOWN = 64


class Redaction:
    """Replaces the secrets it was told of last, also older ones: replies to them may still be on the way."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: dict[str, set[bytes]] = {}
        self._forms: tuple[bytes, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Know these from now on: as they are, without their scheme (``Bearer ...``), and as JSON would write them."""
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
    forms = {secret, *secret.split()[-1:]}
    forms |= {json.dumps(form)[1:-1] for form in forms}
    return {form.encode() for form in forms if len(form.strip()) >= _SHORTEST_REDACTED}
