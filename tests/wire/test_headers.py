"""How long a server asks to wait, in all the ways it may say so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.wire.headers import retry_after_s

_any_machine = settings(deadline=None, database=None, max_examples=100)

THEN = "Mon, 23 Nov 2026 04:05:36 GMT"
NOW = "Mon, 23 Nov 2026 04:05:06 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "abc", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-5", "retry-after": "9"}, 9.0),
        ({"retry-after": THEN, "date": NOW}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 05:05:36 +0100", "date": NOW}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 04:05:36 -0000", "date": NOW}, 30.0),
        ({"retry-after": NOW, "date": NOW}, 0.0),
        ({"retry-after": NOW, "date": THEN}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "abc"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": ""}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "Mon, 99 Nov 2026 04:05:36 GMT", "date": NOW}, None),
    ],
)
def test_milliseconds_go_before_seconds_before_dates_and_nonsense_is_ignored(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize("skew", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_date_is_taken_relative_to_the_servers_own_clock(skew: timedelta) -> None:
    now = datetime.now(UTC) + skew
    headers = {"retry-after": format_datetime(now + timedelta(seconds=40)), "date": format_datetime(now)}
    assert retry_after_s(headers) == 40.0


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_without_a_date_of_the_server_our_own_clock_is_used(date: str | None) -> None:
    headers = {"retry-after": format_datetime(datetime.now(UTC) + timedelta(days=1))}
    seconds = retry_after_s(headers if date is None else {**headers, "date": date})
    assert seconds is not None
    assert 86_000 < seconds <= 86_400


@_any_machine
@given(
    st.text(max_size=30)
    | st.from_regex(
        r"[A-Za-z]{0,4},? ?[0-9-]{0,12} ?[A-Za-z]{0,4} ?[0-9]{0,6} [0-9:]{0,10} ?[A-Z+0-9-]{0,8}", fullmatch=True
    ),
    st.text(max_size=20),
)
def test_no_header_makes_reading_fail(value: str, date: str) -> None:
    seconds = retry_after_s({"retry-after": value, "retry-after-ms": date, "date": date})
    assert seconds is None or 0 <= seconds < float("inf")
