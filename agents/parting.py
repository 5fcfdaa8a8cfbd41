"""The day on which a bridge is to be gone."""

from __future__ import annotations

import asyncio
import logging
from datetime import date, timedelta
from typing import Final

from orchestra.errors import BadOption

logger = logging.getLogger(__name__)

WARNED_DAYS: Final = 14
_DAY_S: Final = 86_400.0


def parting_word(until: date, today: date) -> str | None:
    """Return what to say of a bridge that is to be removed by `until`, its last day; nothing long before.

    Raises:
        BadOption: if that day is over.
    """
    left = (until - today) // timedelta(days=1)
    if left < 0:
        raise BadOption(
            f"this bridge was to be gone after {until}; remove it as docs/migration.md says, "
            "or give it another day with --until"
        )
    if left > WARNED_DAYS:
        return None
    days = "today is its last day" if left == 0 else f"{left} day is left" if left == 1 else f"{left} days are left"
    return f"this bridge is to be gone after {until}, and then refuses to start: {days}; see docs/migration.md"


async def remind(until: date | None) -> None:
    """Say every day that the bridge is to be gone, from two weeks before. Never ends."""
    while until is not None:
        try:
            word = parting_word(until, date.today())
        except BadOption as error:
            word = str(error)
        if word is not None:
            logger.warning("%s", word, extra={"action": "bridge_to_go"})
        await asyncio.sleep(_DAY_S)
    await asyncio.get_running_loop().create_future()
