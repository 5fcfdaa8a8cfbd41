"""How many tasks came to agents by file instead of through the hub, as those agents tell. Pure."""

from __future__ import annotations

from typing import Any, Final

from orchestra.errors import BadOption
from orchestra.wire import INT_MAX

MINUTES: Final = 60
_MINUTE_MS: Final = 60_000


class FileCounts:
    """Keeps what each agent told last: how many in which minute since 1970. After a restart they tell again."""

    def __init__(self) -> None:
        self._told: dict[str, list[int]] = {}

    def tell(self, agent: str, minutes: list[Any]) -> None:
        """Take in what `agent` tells: minute, count, minute, count, … of the last hour, instead of what it told before.

        Raises:
            BadOption: if it is something else.
        """
        if len(minutes) % 2 or len(minutes) > 2 * MINUTES + 2:
            raise BadOption(f"minutes must be pairs of a minute and a count, {MINUTES + 1} of them at most")
        if any(type(each) is not int or not 0 <= each <= INT_MAX for each in minutes):
            raise BadOption("minutes must be whole numbers")
        self._told[agent] = minutes

    def last_hour(self, *, now_ms: int) -> int:
        """Return how many came within the last hour."""
        since = now_ms // _MINUTE_MS - MINUTES
        return sum(
            count
            for told in self._told.values()
            for minute, count in zip(told[::2], told[1::2], strict=True)
            if minute > since
        )
