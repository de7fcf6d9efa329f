"""How long a server asks us to wait."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

#: The headers a transport keeps; all others are dropped at once.
KEPT_HEADERS = ("retry-after-ms", "retry-after", "date", "x-should-retry", "x-request-id", "location")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a server asks to wait, None when it says nothing usable.

    ``retry-after-ms`` goes before ``retry-after``; a date is taken relative to the reply's own ``Date``, so clocks need
    not agree. Negative, empty, infinite and unreadable values are ignored.

    Notes
    -----
    Source: RFC 9110, 10.2.3; openai-python for ``retry-after-ms``.

    Examples
    --------
    >>> retry_after_s({"retry-after-ms": "1500", "retry-after": "9"})
    1.5
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    then, now = _date(value), _date(headers.get("date"))
    if then is None:
        return None
    wait_s = (then - (now or dt.datetime.now(dt.UTC))).total_seconds()
    return wait_s if wait_s >= 0 else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(text: str | None) -> dt.datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=dt.UTC)
