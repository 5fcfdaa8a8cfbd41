"""The audit log: every decision about keys, as rows that are chained by hashes. Pure.

The chain is made in `orchestra.audit`, so that who verifies it does not have to trust the hub's own code for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.audit import FIRST, Entry
from orchestra.keys import fingerprint
from orchestra.limits import REFUSALS_AUDITED_AN_HOUR

from .hubstate import HubState

if TYPE_CHECKING:
    from .enrolment import Stranger

_HOUR_MS = 3_600_000


class Audit:
    """Writes the log. `last` is its newest entry."""

    def __init__(self, state: HubState, last: Entry | None) -> None:
        self._state = state
        self.last = last
        self._refused: dict[str, int] = {}

    def note(self, action: str, *, by: str, about: str, detail: str, now_ms: int) -> None:
        """Add an entry."""
        before, n = (self.last.digest, self.last.n) if self.last else (FIRST, 0)
        self.last = Entry.make(before, n + 1, now_ms, by, action, about, detail)
        self._state.writes.audit.append(self.last)

    def note_refused(self, strangers: list[Stranger], *, now_ms: int) -> None:
        """Note the strangers that were refused: each key once an hour, and only so many of them."""
        self._forget_old(now_ms)
        for public, source in strangers:
            if public not in self._refused and len(self._refused) < REFUSALS_AUDITED_AN_HOUR:
                self._refused[public] = now_ms
                self.note(
                    "refused", by="", about="", detail=f"{fingerprint(public)} from {source or 'here'}", now_ms=now_ms
                )

    def note_bad_token(self, source: str, reason: str, *, now_ms: int) -> None:
        """Note that a connection from `source` was refused with a bad token: each source once an hour, and so many."""
        self._forget_old(now_ms)
        if source not in self._refused and len(self._refused) < REFUSALS_AUDITED_AN_HOUR:
            self._refused[source] = now_ms
            self.note("refused", by="", about="", detail=f"token from {source}: {reason}", now_ms=now_ms)

    def _forget_old(self, now_ms: int) -> None:
        for name, at_ms in list(self._refused.items()):
            if at_ms <= now_ms - _HOUR_MS:
                del self._refused[name]
