"""The length limit of a reply goes by two names, and servers refuse one or the other: then the other one is sent.

The key of a request is made before, so both names are one request.
"""

from __future__ import annotations

import msgspec

#: By the code of the verdict: the name that was refused, and the one to use.
_NAMES = {
    "max_tokens_renamed": ("max_tokens", "max_completion_tokens"),
    "max_completion_tokens_renamed": ("max_completion_tokens", "max_tokens"),
}


def renamed(body: bytes, code: str | None) -> bytes:
    """Return a request's body as it is to be sent after a refusal; the same bytes when there is nothing to rename.

    Parameters
    ----------
    body : bytes
    code : str or None
        Of a verdict.

    Examples
    --------
    >>> renamed(b'{"model":"m","max_tokens":8}', "max_tokens_renamed")
    b'{"model":"m","max_completion_tokens":8}'
    """
    refused, wanted = _NAMES.get(code or "", ("", ""))
    if not refused or b'"%b"' % refused.encode() not in body:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({wanted if name == refused else name: field for name, field in fields.items()})
