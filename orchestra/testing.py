"""Doubles for tests of code that uses this library."""

from __future__ import annotations

_EPOCH_MS = 1_700_000_000_000  # any day will do; this one is in 2023


class FakeClock:
    """A clock that moves only when it is told to.

    Attributes:
        now_ms: milliseconds since 1970, as people read them.
        at_ms: milliseconds of a clock that never jumps, as leases and deadlines are measured.
    """

    def __init__(self, *, now_ms: int = _EPOCH_MS, at_ms: int = 1_000_000) -> None:
        self.now_ms = now_ms
        self.at_ms = at_ms

    def now(self) -> float:
        """Return seconds of the clock that never jumps."""
        return self.at_ms / 1000

    def advance(self, seconds: float) -> None:
        """Let time pass; never backwards."""
        assert seconds >= 0, f"time can't go back by {-seconds} s"
        self.at_ms += round(seconds * 1000)
        self.now_ms += round(seconds * 1000)

    def jump(self, seconds: float) -> None:
        """Set the clock on the wall, forwards or backwards, as a person or NTP does; leases don't notice."""
        self.now_ms += round(seconds * 1000)
