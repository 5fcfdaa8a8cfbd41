"""Cursors: how far a peer has read a channel, kept by the hub so that the place outlives the reader. Pure."""

from __future__ import annotations

from orchestra.errors import BadOption, HubFull, NotFound
from orchestra.limits import CURSORS_MAX, CURSORS_PER_PEER_MAX, ENTRY_NAME_CHARS_MAX

from .channel import Channel
from .hubstate import HubState
from .roster import Peer
from .turn import Turn

CursorKey = tuple[int, int, str]
"""(peer, channel, name)."""


class Cursors:
    """Every cursor of every peer. A name belongs to its peer: all its sessions share it, no other peer sees it."""

    def __init__(self, state: HubState, cursors: dict[CursorKey, int]) -> None:
        self._state = state
        self._count = len(cursors)
        self._places: dict[int, dict[tuple[int, str], int]] = {}
        for (peer, channel, name), seq in cursors.items():
            self._places.setdefault(peer, {})[channel, name] = seq

    def open(self, peer: Peer, channel: Channel, name: str, *, otherwise: int, turn: Turn) -> int:
        """Return the seq after which this cursor reads on; a new one begins after `otherwise`, and is kept from now.

        Raises:
            HubFull: if the peer, or the hub, has too many.
        """
        if not 0 < len(name) <= ENTRY_NAME_CHARS_MAX:
            raise BadOption(f"the name of a cursor must be 1 to {ENTRY_NAME_CHARS_MAX} characters")
        mine = self._places.setdefault(peer.id, {})
        place = mine.get((channel.id, name))
        if place is not None:
            return place
        if len(mine) >= CURSORS_PER_PEER_MAX or self._count >= CURSORS_MAX:
            raise HubFull(
                f"a peer may keep {CURSORS_PER_PEER_MAX} cursors and the hub {CURSORS_MAX}; "
                "drop one with: orchestra channel forget"
            )
        mine[channel.id, name] = otherwise
        self._count += 1
        self._state.writes.cursors[peer.id, channel.id, name] = (otherwise, turn.now_ms)
        return otherwise

    def move(self, peer: Peer, channel: Channel, name: str, seq: int, turn: Turn) -> None:
        """All entries up to `seq` were dealt with; a place never goes back.

        Raises:
            NotFound: if there is no such cursor.
        """
        mine = self._mine(peer, channel, name)
        seq = min(seq, self._state.last_seq)
        if seq > mine[channel.id, name]:
            mine[channel.id, name] = seq
            self._state.writes.seen[peer.id, channel.id, name] = (seq, turn.now_ms)

    def forget(self, peer: Peer, channel: Channel, name: str) -> None:
        """Drop a cursor.

        Raises:
            NotFound: if there is no such cursor.
        """
        del self._mine(peer, channel, name)[channel.id, name]
        self._count -= 1
        key = (peer.id, channel.id, name)
        self._state.writes.cursors.pop(key, None)
        self._state.writes.seen.pop(key, None)
        self._state.writes.forgotten.append(key)

    def of(self, peer: Peer, channel: Channel) -> dict[str, int]:
        """Return the places of `peer` in `channel`, by name."""
        mine = self._places.get(peer.id, {})
        return {name: seq for (number, name), seq in mine.items() if number == channel.id}

    def _mine(self, peer: Peer, channel: Channel, name: str) -> dict[tuple[int, str], int]:
        mine = self._places.get(peer.id, {})
        if (channel.id, name) not in mine:
            raise NotFound(f"{peer.text} has no cursor {name[:40]!r} in {channel.text}; see: orchestra channel list")
        return mine
