"""Secrets out of what a server says: they must reach no column, journal, log or exception."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_MARK = b"[redacted]"
_LOOKS_SECRET = re.compile(rb"\bsk-[\w-]{6,}|(?<=Bearer )[^\s'\"]+")
#: Shorter values would mark ordinary words.
_SHORTEST_REDACTED = 6


class Redaction:
    """Replaces secrets it has been told of, also older ones: replies to them may still be on the way."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._forms: tuple[bytes, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        """Know these from now on: as they are, without their scheme (``Bearer ...``), and as JSON would write them."""
        new = self._secrets.union(secrets)
        if new == self._secrets:
            return
        self._secrets = new
        forms = {form for secret in new if secret.strip() for form in (secret, secret.split()[-1])}
        forms |= {json.dumps(form)[1:-1] for form in forms}
        known = {form.encode() for form in forms if len(form) >= _SHORTEST_REDACTED}
        self._forms = tuple(sorted(known, key=len, reverse=True))

    def redact(self, data: bytes) -> bytes:
        """Return the bytes without secrets."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, _MARK)
        return data

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        return self.redact(text.encode("utf-8", "replace")).decode()

    def redact_words(self, words: bytes) -> bytes:
        """Return what an exception says without secrets, and without what looks like one: not all keys are known here.

        A model's text is not for this: it may speak of keys.
        """
        return _LOOKS_SECRET.sub(_MARK, self.redact(words))
