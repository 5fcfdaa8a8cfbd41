"""The tarpit: who hammers the port has to wait for the answer. Pure.

Who is refused at once comes again at once, and each time costs libzmq's thread, which serves all peers, a third of a
millisecond: a few hundred strangers take it whole. So, as it is done with logins, the refusal itself takes a second:
for newcomers that find no room, and for keys that are not known, once their address had more of them than happen by
mistake, or when all agents of a machine start at once. How long each waits differs by chance, or they would all come
back together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from orchestra.limits import REFUSED_SOURCES_MAX, TARPIT_MAX, TARPIT_MS

from .bucket import Bucket
from .lobby import network_of

_Waiting = TypeVar("_Waiting", bound=Hashable)


class Refusals:
    """How often each address was refused of late."""

    def __init__(self, *, rate: float, burst_s: float) -> None:
        """Args:
        rate: how many a second happen by mistake; so many of `burst_s` seconds at once.
        """
        self._rate, self._burst_s = rate, burst_s
        self._buckets: dict[str, Bucket] = {}

    def add(self, source: str, *, at_ms: int) -> bool:
        """Count one; return whether there were so many that the next answer should wait.

        Args:
            source: an IP address.
            at_ms: the steady clock.
        """
        network = network_of(source)
        bucket = self._buckets.pop(network, None) or Bucket()
        self._buckets[network] = bucket
        if len(self._buckets) > REFUSED_SOURCES_MAX:
            del self._buckets[next(iter(self._buckets))]  # who was refused longest ago
        return bucket.take(rate=self._rate, burst_s=self._burst_s, at_ms=at_ms) > 0


class Tarpit(Generic[_Waiting]):
    """What waits, and until when."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """Args:
        chance: gives numbers from 0 to 1.
        """
        self._chance = chance
        self._until: dict[_Waiting, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    @property
    def has_room(self) -> bool:
        return len(self._until) < TARPIT_MAX

    def hold(self, waiting: _Waiting, *, at_ms: int) -> None:
        """Keep it for TARPIT_MS, and up to as long again."""
        self._until[waiting] = at_ms + TARPIT_MS * (1 + self._chance())

    def forget(self, waiting: _Waiting) -> bool:
        """It is gone; return whether it was here."""
        return self._until.pop(waiting, None) is not None

    def release(self, *, at_ms: int) -> list[_Waiting]:
        """Return, and forget, what has waited for long enough."""
        due = [waiting for waiting, until in self._until.items() if until <= at_ms]
        for waiting in due:
            del self._until[waiting]
        return due
