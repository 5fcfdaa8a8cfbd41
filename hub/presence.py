"""Presence: who is connected, since when, who is away, and who is told when that changes. Pure.

Watchers are told where a peer stands at the end of a turn in which that changed: a client that reconnects within one
turn is no news.
"""

from __future__ import annotations

from typing import Any, Final

from orchestra.errors import BadOption, HubFull
from orchestra.limits import AWAY_TEXT_CHARS_MAX, LIST_ROWS_MAX, PRESENCE_WATCHERS_MAX, REPLY_BYTES_MAX
from orchestra.wire import EVENT, pack

from . import grants
from .hubstate import HubState
from .roster import Peer, Session
from .turn import Link, Turn

ONLINE, AWAY, OFFLINE = "online", "away", "offline"
WAKES: Final = ("now", "next-turn", "asking", "no")
"""How what is sent reaches a peer: its program reacts at once, its model sees it with its next turn, it has to ask, or
nobody is there. The best of its sessions counts."""
SETTABLE: Final = (ONLINE, AWAY)
_HOSTS_TOLD: Final = 8


class Presence:
    """Who is there, and the sessions that follow it."""

    def __init__(self, state: HubState) -> None:
        self._state = state
        self._watchers: dict[Link, None] = {}
        self._before: dict[Peer, tuple[str, str | None]] = {}
        """The peers that this turn may have changed, as they were before it."""

    def joins(self, session: Session) -> None:
        """`session` is about to be its peer's."""
        peer = session.peer
        self._touch(peer)
        if not peer.sessions:
            peer.since_ms = session.since_ms

    def left(self, session: Session, turn: Turn) -> None:
        """`session` is its peer's no more."""
        peer = session.peer
        self._watchers.pop(session.link, None)
        self._before.setdefault(peer, (_state_with_sessions(peer), peer.away_text))
        peer.seen_ms = turn.now_ms
        if not peer.sessions:
            peer.since_ms = turn.now_ms
            self._state.unseen[peer.id] = peer

    def set(self, peer: Peer, state: str, text: str, turn: Turn) -> None:
        """A person says that `peer` is away, or back; kept until it is said otherwise.

        Raises:
            BadOption: if the state can't be set by hand, or the text is too long.
        """
        if state not in SETTABLE:
            raise BadOption(f"state must be one of {', '.join(SETTABLE)}; offline is who is not connected")
        if len(text) > AWAY_TEXT_CHARS_MAX:
            raise BadOption(f"text has {len(text)} characters; the limit is {AWAY_TEXT_CHARS_MAX}")
        if text and state == ONLINE:
            raise BadOption("text is for those who are away")
        self._touch(peer)
        if state == ONLINE:
            peer.away_ms, peer.away_text = None, None
        else:
            if peer.away_ms is None:
                peer.away_ms = turn.now_ms
            peer.away_text = text
        self._state.writes.peers[peer.id] = peer

    def watch(self, session: Session) -> None:
        """Tell `session` of every change from now on.

        Raises:
            HubFull: if too many watch.
        """
        if session.link not in self._watchers and len(self._watchers) >= PRESENCE_WATCHERS_MAX:
            raise HubFull(f"{PRESENCE_WATCHERS_MAX} sessions watch who comes and goes; ask with `peers` instead")
        self._watchers[session.link] = None

    def unwatch(self, session: Session) -> None:
        self._watchers.pop(session.link, None)

    def finish(self, turn: Turn) -> list[Peer]:
        """End the turn: tell the watchers, of each peer once. Return the peers that changed."""
        if not self._before:
            return []
        changed = [peer for peer, before in self._before.items() if (state_of(peer), peer.away_text) != before]
        for peer in changed if self._watchers else ():
            record = [EVENT, "presence", facts(peer)]
            for link in self._watchers:
                turn.send(link, record)
        self._before.clear()
        return changed

    def _touch(self, peer: Peer) -> None:
        self._before.setdefault(peer, (state_of(peer), peer.away_text))


def state_of(peer: Peer) -> str:
    return _state_with_sessions(peer) if peer.sessions else OFFLINE


def _state_with_sessions(peer: Peer) -> str:
    return ONLINE if peer.away_text is None else AWAY


def wake_of(peer: Peer) -> str:
    """Return how `peer` can be woken: one of `WAKES`."""
    return min((_wake_of(session) for session in peer.sessions), key=WAKES.index, default=WAKES[-1])


def _wake_of(session: Session) -> str:
    """Return what a session says of itself; of one that says nothing, whether it is sent anything unasked."""
    said = session.about.get("wake", "")
    if said in WAKES:
        return said
    is_pushed = session.slots or session.credit or session.letters or "answers" in session.about
    return "now" if is_pushed else "asking"


def facts(peer: Peer) -> dict[str, Any]:
    """What is told of a peer: `since_ms` is since when it is in this state, nil if it never came."""
    state = state_of(peer)
    hosts = sorted({session.about.get("host", "") for session in peer.sessions} - {""})
    return {
        "address": peer.text,
        "state": state,
        "since_ms": (peer.away_ms if state == AWAY else peer.since_ms) or None,
        "away_ms": peer.away_ms,
        "away_text": peer.away_text,
        "session_count": len(peer.sessions),
        "hosts": hosts[:_HOSTS_TOLD],
        "wake": wake_of(peer),
    }


def more_facts(peer: Peer) -> dict[str, Any]:
    """`facts`, and what each session does."""
    return {
        **facts(peer),
        "generation": peer.generation,
        "grants": list(grants.of(peer)),
        "is_default": peer.grants is None,
        "seen_ms": peer.seen_ms,
        "waiting": peer.mailbox.waiting,
        "unread": peer.mailbox.count,
        "busy": sum(len(session.tasks) for session in peer.sessions),
        "slots": sum(session.slots for session in peer.sessions),
        "sessions": [
            {
                **session.about,
                "number": session.number,
                "since_ms": session.since_ms,
                "is_worker": session.is_worker,
                "token": session.token.token_id if session.token is not None else "",
                "slots": session.slots,
                "tasks": sorted(session.tasks),
                "queues": list(session.queues),
            }
            for session in peer.sessions
        ],
    }


def page(peers: list[Peer], *, after: str, is_brief: bool) -> dict[str, Any]:
    """Tell of the peers whose address comes after `after`, as many as one reply holds; `is_cut`: there are more."""
    rest = sorted((peer for peer in peers if peer.text > after), key=lambda peer: peer.text)
    found: list[dict[str, Any]] = []
    size = 0
    for peer in rest[:LIST_ROWS_MAX]:
        told = facts(peer) if is_brief else more_facts(peer)
        size += len(pack(told))
        if size > REPLY_BYTES_MAX and found:
            break
        found.append(told)
    return {"peers": found, "is_cut": len(found) < len(rest)}
