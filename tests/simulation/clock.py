"""The clocks: the world's own time, and what the hub and each peer read from clocks that differ."""

from __future__ import annotations

_EPOCH_MS = 1_700_000_000_000


class Clocks:
    """`true_ms` only the world knows. The hub has a steady clock and one on the wall, and the wall's may jump."""

    def __init__(self) -> None:
        self.true_ms = 1_000_000
        self._wall_off_ms = self._wall_off_ms_max = _EPOCH_MS
        self._steady_off_ms = 0

    def advance(self, ms: int) -> None:
        self.true_ms += ms

    @property
    def now_ms(self) -> int:
        """What the hub reads from the wall."""
        return self.true_ms + self._wall_off_ms

    @property
    def at_ms(self) -> int:
        """What the hub reads from the clock that never jumps while its machine runs."""
        return self.true_ms + self._steady_off_ms

    def jump(self, ms: int) -> None:
        """Somebody sets the clock on the wall."""
        self._wall_off_ms_max = max(self._wall_off_ms_max, self._wall_off_ms)
        self._wall_off_ms += ms

    def mend(self) -> None:
        """Somebody sets the wall's clock to what it would be at most: what waits for a time does not wait for ever."""
        self._wall_off_ms = max(self._wall_off_ms, self._wall_off_ms_max)

    def restart_machine(self, ms: int) -> None:
        """The hub's machine starts again: its steady clock begins anywhere."""
        self._steady_off_ms = ms


class PeerClock:
    """A steady clock that is a little fast or slow."""

    def __init__(self, clocks: Clocks, *, drift_ppm: int, start_ms: int) -> None:
        self._clocks = clocks
        self._rate = 1 + drift_ppm / 1_000_000
        self._start_ms = start_ms

    @property
    def at_ms(self) -> int:
        return self._start_ms + int(self._clocks.true_ms * self._rate)
