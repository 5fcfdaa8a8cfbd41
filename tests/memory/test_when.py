from __future__ import annotations

import time

import pytest

from orchestra.errors import BadOption
from orchestra.memory.when import since_ms, stamp_ms

from .memories import DAY, NOW


@pytest.mark.parametrize(("text", "days"), [("2w", 14), ("3d", 3), ("24h", 1), ("1440min", 1), ("1m", 30), ("1Y", 365)])
def test_since_reads_how_long_ago(text: str, days: int) -> None:
    assert since_ms(text, now_ms=NOW) == NOW - days * DAY


def test_since_reads_a_day() -> None:
    assert (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(since_ms("2026-11-24", now_ms=NOW) / 1000)) == "2026-11-24 00:00"
    )


@pytest.mark.parametrize("text", ["yesterday", "2", "w", "-1d", "2026-13-01", "24.11.2026", ""])
def test_a_time_that_is_none_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(BadOption, match="say 90min, 12h, 3d"):
        since_ms(text, now_ms=NOW)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-02", DAY),
        ("1970-01-02 00:00:01", DAY + 1000),
        ("1970-01-02T00:00:01.250Z", DAY + 1250),
        ("1970-01-02T02:00:00+02:00", DAY),
        ("1970-01-01T22:00:00.5-02:00", DAY + 500),
    ],
)
def test_times_of_other_systems_are_read(text: str, ms: int) -> None:
    assert stamp_ms(text) == ms
