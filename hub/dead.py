"""Dead letters: sent again, or dropped by a person. Pure.

The row of a dead letter stays when it is closed, and says what became of it, so that nothing disappears without a
reason; retention removes it with its message.
"""

from __future__ import annotations

from typing import Any

from orchestra.errors import MailboxFull, NotFound
from orchestra.limits import MAILBOX_MESSAGES_MAX
from orchestra.wire import MESSAGE, pack

from . import grants
from .hubstate import HubState
from .mailbox import Letter
from .post import Post
from .roster import Origin, Peer, Session
from .turn import Turn

_RESENT_EPOCH = b""  # of the sends that the hub makes for a peer: no client can say HELLO with it


class DeadLetters:
    """What may be done with the messages that are dead."""

    def __init__(self, state: HubState, post: Post) -> None:
        self._state = state
        self._post = post

    def resend(self, session: Session, found: list[dict[str, Any]], turn: Turn) -> list[dict[str, Any]]:
        """Send dead letters again to those they did not reach, from whom they were from; all of them or none.

        `found` are messages as `receipts.dead_letter` gives them. One that was sent again already is not sent twice.

        Raises:
            NotFound: if one is not dead, or is a task.
            NotAllowed: if one is another's, or the caller may not send to its recipient.
            MailboxFull: if a recipient has no room.
        """
        letters = [(message, each) for message in found for each in self._checked(session, message)]
        room: dict[str, int] = {}
        for _, each in letters:
            to = each["recipient"]
            grants.check(session.rights, grants.SEND, to)
            room[to] = room.get(to, 0) + (each["closed_ms"] is None)
            if self._state.roster.peers[to].mailbox.count + room[to] > MAILBOX_MESSAGES_MAX:
                raise MailboxFull(f"{MAILBOX_MESSAGES_MAX} messages wait for {to}; try again when it has read some")
        done = []
        for message, each in letters:
            if each["closed_ms"] is None:
                peer = self._state.roster.peers[each["recipient"]]
                each = {**each, "resent_seq": self._send(session, message, peer, turn)}
            elif not each["resent_seq"]:
                continue
            done.append({"seq": message["seq"], "recipient": each["recipient"], "resent_seq": each["resent_seq"]})
        return done

    def drop(self, session: Session, found: list[dict[str, Any]], turn: Turn) -> int:
        """Close dead letters; return how many there were.

        Raises:
            NotFound, NotAllowed: as `resend`, but tasks are taken too.
        """
        checked = [(message, self._checked(session, message, may_be_task=True)) for message in found]
        for message, letters in checked:
            for each in letters:
                if each["closed_ms"] is None:
                    self._close(session, message["seq"], each["recipient"], None, turn)
        return sum(len(letters) for _, letters in checked)

    def _checked(self, session: Session, message: dict[str, Any], *, may_be_task: bool = False) -> list[dict[str, Any]]:
        seq = message["seq"]
        if "from" in message:
            sending = grants.SEND if message["kind"] == MESSAGE else grants.SUBMIT
            grants.check_manage(session.rights, sender=message["from"], sending=sending, to=message["to"])
        if not message["dead"]:
            raise NotFound(f"there is no dead letter {seq}; see: orchestra dead list")
        if message["kind"] != MESSAGE and not may_be_task:
            raise NotFound(f"{seq} is a task; try it again with: orchestra task retry {seq}")
        return [self._as_it_is(seq, each) for each in message["dead"]]

    def _as_it_is(self, seq: int, letter: dict[str, Any]) -> dict[str, Any]:
        """Look whether it was closed since the last commit."""
        closed = self._state.writes.dead_closed.get((seq, self._state.ids[letter["recipient"]]))
        return letter if closed is None else {**letter, "closed_ms": closed[0], "resent_seq": closed[2]}

    def _send(self, session: Session, message: dict[str, Any], peer: Peer, turn: Turn) -> int:
        state, sender = self._state, message["from"]
        seq = state.last_seq + 1
        kept = {name: value for name, value in message["options"].items() if name != "expires_ms"}
        kept["resend_of"] = message["seq"]  # and whoever sends it again wants it to arrive, however long that takes
        rank = message["rank"]
        letter = Letter(seq, rank, 0, sender, peer.text, turn.now_ms, kept, message["body"])
        origin = self._origin_of(state.roster.peers[sender])
        self._post.post(peer, letter, turn)
        state.last_seq = origin.last_seq = seq
        origin.last_n += 1
        state.unsaved[origin.id] = origin
        state.writes.messages.append(
            (seq, origin.id, origin.last_n, peer.id, MESSAGE, rank, turn.now_ms, pack(kept), message["body"])
        )
        self._close(session, message["seq"], peer.text, seq, turn)
        return seq

    def _origin_of(self, peer: Peer) -> Origin:
        origin = self._state.roster.origin_of(peer, _RESENT_EPOCH)
        if origin is None:
            origin = self._state.new_origin(peer, _RESENT_EPOCH)
        return origin

    def _close(self, session: Session, seq: int, recipient: str, resent_seq: int | None, turn: Turn) -> None:
        key = seq, self._state.ids[recipient]
        self._state.writes.dead_closed[key] = turn.now_ms, session.peer.id, resent_seq
