"""Times as RFC 3339 writes them, from and to milliseconds since 1970. No clock is read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORM: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def write_time(ms: int) -> str:
    """Return `ms` in UTC, such as 2026-01-31T14:05:00.250Z."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_time(text: str) -> int:
    """Return the milliseconds of a time.

    Raises:
        ValueError: if it is none.
    """
    if not _FORM.fullmatch(text):
        raise ValueError("no time as RFC 3339 writes it")
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
