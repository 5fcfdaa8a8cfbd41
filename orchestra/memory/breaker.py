"""What to do when the index fails: try once more, set it aside, then leave it alone for longer and longer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestra.limits import INDEX_REST_S, INDEX_REST_S_MAX

_SET_ASIDE_AT: Final = 2  # failures in a row: one may be a killed process, two are the files


@dataclass(slots=True)
class Breaker:
    """Counts failures in a row; only a check that finds everything ends the row."""

    failures: int = 0
    closed_at: float = 0.0
    """Steady seconds from which on the index may be started again."""

    def failed(self, *, now: float) -> bool:
        """Record a failure; return whether the files are to be set aside before the next start."""
        self.failures += 1
        if self.failures > _SET_ASIDE_AT:
            rest_s: float = INDEX_REST_S * 2 ** min(self.failures - _SET_ASIDE_AT - 1, 20)
            self.closed_at = now + min(rest_s, INDEX_REST_S_MAX)
        return self.failures >= _SET_ASIDE_AT

    def worked(self) -> None:
        self.failures, self.closed_at = 0, 0.0

    def lets(self, *, now: float) -> bool:
        return now >= self.closed_at
