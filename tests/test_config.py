"""Settings and durations."""

from __future__ import annotations

import datetime as dt

import dask
import pytest

from curator_llm import config
from curator_llm.errors import ConfigurationError


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("5", 5.0),
        ("90s", 90.0),
        ("500ms", 0.5),
        ("10min", 600.0),
        ("10 min", 600.0),
        ("1.5 Mins", 90.0),
        ("10 minutes", 600.0),
        ("2 m", 120.0),
        ("1h", 3600.0),
        ("2 days", 172_800.0),
        (dt.timedelta(minutes=1), 60.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_written_with_a_unit(written: object, seconds: float) -> None:
    assert config.parse_duration(written, "timeout") == seconds


@pytest.mark.parametrize(
    "written",
    [0, -1, "0s", "-5s", "", "soon", "10 parsecs", "nan", "inf", float("nan"), float("inf"), None, True, [1]],
)
def test_what_is_no_duration_above_zero_is_refused_with_its_name_and_value(written: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        config.parse_duration(written, "row_deadline")
    assert "`row_deadline`" in str(raised.value)
    assert repr(written) in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "journal.sync-interval",
        "engine.unreachable-after",
        "engine.drain",
        "engine.idle-connection",
        "engine.connection-age",
    ],
)
def test_every_packaged_duration_can_be_read(name: str) -> None:
    assert config.parse_duration(config.get(name), name) > 0


def test_a_users_setting_wins_over_the_packaged_one() -> None:
    with dask.config.set({"curator-llm.engine.max-open-partitions": 3}):
        config.load_defaults()
        assert config.get("engine.max-open-partitions") == 3
