"""Times as people and other systems write them."""

from __future__ import annotations

import calendar
import re
import time
from typing import Final

from orchestra.errors import BadOption

_AGO: Final = re.compile(r"(\d{1,6})\s*(min|h|d|w|m|y)")
_UNITS_MS: Final = {
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
    "m": 30 * 86_400_000,
    "y": 365 * 86_400_000,
}


def since_ms(text: str, *, now_ms: int) -> int:
    """Return when `2w`, `3d`, `12h`, `90min`, `1m`, `1y` ago was, or the begin of `2026-11-24` (local time).

    Raises:
        BadOption: if it is neither.
    """
    text = text.strip().lower()
    if found := _AGO.fullmatch(text):
        return max(0, now_ms - int(found[1]) * _UNITS_MS[found[2]])
    try:
        return max(0, int(time.mktime(time.strptime(text, "%Y-%m-%d"))) * 1000)
    except (ValueError, OverflowError) as exc:
        raise BadOption(f"{text!r} is no time; say 90min, 12h, 3d, 2w, 1m, 1y or 2026-11-24") from exc


def stamp_ms(text: str) -> int:
    """Return the time that ISO 8601 or SQLite's `YYYY-MM-DD HH:MM:SS` (UTC where no zone is said) tells.

    Raises:
        ValueError: if it is neither.
    """
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?)?", text.strip()
    )
    if not found:
        raise ValueError(f"{text!r} is no time")
    day, minute, second, fraction, zone = found.groups()
    made = time.strptime(f"{day} {minute or '00:00'}:{second or '00'}", "%Y-%m-%d %H:%M:%S")
    ms = calendar.timegm(made) * 1000 + int(((fraction or "") + "000")[:3])
    if zone and zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        ms -= (1 if zone[0] == "+" else -1) * (hours * 60 + minutes) * 60_000
    return max(0, ms)
