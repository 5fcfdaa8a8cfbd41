"""What a send is checked against: its key, what it replies to, and how often its sender sends. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.address import Kind, parse_address
from orchestra.errors import BadOption, Conflict, RateLimited
from orchestra.limits import KEY_CHARS_MAX, SEND_BURST_S
from orchestra.wire import INT_MAX, MESSAGE

from .hubstate import HubState
from .roster import Peer
from .turn import Turn


class Conditions:
    """The conditions of sends. Only those that name a key or a message cost a look into the database."""

    def __init__(self, state: HubState, *, sends_per_second: int = 0) -> None:
        self._state = state
        self.sends_per_second = sends_per_second

    def meter(self, peer: Peer, turn: Turn) -> None:
        """Count one send of `peer`: a token bucket that holds `SEND_BURST_S` seconds of the rate.

        Raises:
            RateLimited: if the bucket is empty.
        """
        rate = self.sends_per_second
        wait_s = peer.sends.take(rate=rate, burst_s=SEND_BURST_S, at_ms=turn.at_ms)
        if wait_s:
            raise RateLimited(f"{peer.text} may send {rate} messages a second; try again in {wait_s:.2g} s")

    def sent_under(self, peer: Peer, key: Any, kind: int, to: str) -> int | None:
        """Return the seq that `peer` sent under `key` before, in any life.

        Raises:
            BadOption: if it is no key.
            Conflict: if that was something else, or to somebody else.
        """
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
            raise BadOption(f"key must be a text of 1 to {KEY_CHARS_MAX} characters")
        pending = self._state.writes.send_keys.get((peer.id, key))  # the database does not know of it yet
        before = pending or self._state.archive.sent_under(peer.id, key)
        if before is None:
            return None
        if (before.kind, before.to) != (kind, to):
            what = "message" if before.kind == MESSAGE else "task"
            raise Conflict(f"the key {key!r} was used for {what} {before.seq} to {before.to}; use another key")
        return before.seq

    def thread_of(self, peer: Peer, seq: Any) -> int:
        """Return the thread that a reply of `peer` to message `seq` belongs to: the seq of its first message.

        Raises:
            BadOption: if `peer` neither sent nor got such a message.
        """
        found = self._state.archive.heading(seq, peer.id) if type(seq) is int and 0 < seq <= INT_MAX else None
        if found is None or found["kind"] != MESSAGE or not self._took_part(peer, found):
            raise BadOption(f"{str(seq)[:20]} is no message that you sent or got, so it can't be replied to")
        thread: int = found["options"].get("thread", seq)
        return thread

    def _took_part(self, peer: Peer, found: dict[str, Any]) -> bool:
        is_public = parse_address(found["to"]).kind is Kind.CHANNEL
        return is_public or peer.text in (found["from"], found["to"]) or bool(found["is_recipient"])
