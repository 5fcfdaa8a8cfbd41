"""The hub's next key: told to every peer before it takes over, so that none has to be let in again. Pure.

A hub has one key at a time, since everybody checks that key before saying a word. So a new one is announced first: to
the sessions that are open, to those that come meanwhile, and in invitations. Peers keep it beside the key they know,
and whoever heard of it in time comes back by itself when it takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestra.errors import BadOption
from orchestra.keys import fingerprint
from orchestra.limits import KEY_OVERLAP_S_MAX
from orchestra.wire import EVENT

from .audit import Audit
from .hubstate import HubState
from .turn import Link, Turn


class Succession:
    """Attributes:
    public: the public half of the next key, or "" where none was announced.
    at_ms: when it takes over, in milliseconds since 1970.
    """

    def __init__(self, state: HubState, audit: Audit, announced: tuple[str, int], make_key: Callable[[], str]) -> None:
        """Args:
        announced: what was announced before the hub started: `public` and `at_ms`.
        make_key: makes the next key, or finds the one that is made already, and gives its public half.
        """
        self._state = state
        self._audit = audit
        self._make_key = make_key
        self.public, self.at_ms = announced

    def announce(self, by: str, overlap_ms: int, turn: Turn) -> None:
        """Let a new key take over after the overlap, and tell everybody; again, it moves the time.

        Raises:
            BadOption: if the overlap is too long.
        """
        if not 0 <= overlap_ms <= KEY_OVERLAP_S_MAX * 1000:
            raise BadOption(f"overlap_ms must be 0 to {KEY_OVERLAP_S_MAX * 1000:.0f}")
        self.public, self.at_ms = self._make_key(), turn.now_ms + overlap_ms
        self._state.writes.next_key = self.public, self.at_ms
        detail = f"the hub's next key {fingerprint(self.public)} takes over in {overlap_ms // 1000} s"
        self._audit.note("rotating", by=by, about="", detail=detail, now_ms=turn.now_ms)
        for link in self._state.roster.sessions:
            self.tell(link, turn)

    def tell(self, link: Link, turn: Turn) -> None:
        """Tell one session, if there is something to tell."""
        if self.public:
            told: dict[str, Any] = {"public_key": self.public, "at_ms": self.at_ms}
            turn.send(link, [EVENT, "hub_key", told])

    def is_due(self, now_ms: int) -> bool:
        return bool(self.public) and now_ms >= self.at_ms

    def took_over(self, *, now_ms: int) -> None:
        """The hub has its next key now."""
        detail = f"the hub has the key {fingerprint(self.public)} now"
        self._audit.note("rotated", by="", about="", detail=detail, now_ms=now_ms)
        self.public, self.at_ms = self._state.writes.next_key = "", 0
