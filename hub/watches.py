"""Watches: which sessions are told what becomes of which messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from orchestra.errors import HubFull
from orchestra.limits import WATCHES_MAX
from orchestra.stage import ACKED, DEAD, STAGES
from orchestra.wire import EVENT

from .hubstate import HubState
from .roster import Session
from .turn import Link, Turn


@dataclass(slots=True)
class _Watched:
    to: str
    links: set[Link] = field(default_factory=set)


class Watches:
    """The messages that somebody watches, by seq."""

    def __init__(self, state: HubState) -> None:
        self._state = state
        self.watched: Final[dict[int, _Watched]] = {}

    def check_room(self, session: Session, seqs: Iterable[int]) -> None:
        """Raise HubFull if `session` may not watch so many more."""
        if len(session.watched_messages.union(seqs)) > WATCHES_MAX:
            raise HubFull(f"one session may watch {WATCHES_MAX} messages; message.unwatch those that matter no more")

    def watch(self, session: Session, seq: int, to: str) -> None:
        """Tell `session` what becomes of message `seq`; safe to repeat. The caller checked that there is room."""
        session.watched_messages.add(seq)
        self.watched.setdefault(seq, _Watched(to)).links.add(session.link)

    def unwatch(self, session: Session, seq: int) -> None:
        session.watched_messages.discard(seq)
        watched = self.watched.get(seq)
        if watched is not None:
            watched.links.discard(session.link)
            if not watched.links:
                del self.watched[seq]

    def session_ended(self, session: Session) -> None:
        for seq in list(session.watched_messages):
            self.unwatch(session, seq)

    def tell(self, seq: int, recipient: str, stage: str, turn: Turn, *, reason: str = "") -> None:
        """Message `seq` came to `stage` for `recipient`: say so, once it is on disk."""
        watched = self.watched.get(seq)
        if watched is None:
            return
        self._state.writes.is_told = True
        facts = {
            "seq": seq,
            "to": watched.to,
            "recipient": recipient,
            "stage": stage,
            "at_ms": turn.now_ms,
            "reason": reason,
        }
        for link in list(watched.links):
            turn.send(link, [EVENT, "receipt", facts])
        if watched.to == recipient and stage in (DEAD, STAGES[ACKED]):  # nothing follows, for nobody
            for link in list(watched.links):
                session = self._state.roster.sessions.get(link)
                if session is not None:
                    self.unwatch(session, seq)
