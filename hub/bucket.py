"""A token bucket: how often something may be done, with a burst. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Attributes:
    left: how much it held when something was taken last.
    at_ms: when that was, on the steady clock; 0 before the first time, when it is full.
    """

    left: float = 0.0
    at_ms: int = 0

    def take(self, *, rate: float, burst_s: float, at_ms: int) -> float:
        """Take one; return 0, or how many seconds it lasts until there is one.

        It fills with `rate` a second, and holds what comes in `burst_s` seconds.
        """
        most = max(1.0, rate * burst_s)
        self.left = min(most, self.left + (at_ms - self.at_ms) * rate / 1000) if self.at_ms else most
        self.at_ms = at_ms
        if self.left < 1:
            return (1 - self.left) / rate
        self.left -= 1
        return 0.0
