"""The post: delivers messages to peers, and takes their acknowledgements. Pure.

`post` and `ack` run once per message. They avoid look-ups and helper calls where that was measured to matter.
"""

from __future__ import annotations

from typing import Any, Final

from orchestra.errors import Malformed
from orchestra.limits import DELIVERY_ATTEMPTS_MAX, DELIVERY_LEASE_S, MAILBOX_MESSAGES_MAX, WINDOW_MESSAGES
from orchestra.wire import Record

from .hubstate import HubState
from .mailbox import Letter
from .roster import Peer, Session
from .turn import Fetch, Turn

_DELIVERY_LEASE_MS: Final = int(DELIVERY_LEASE_S * 1000)
_RETRY_MS: Final = (0, 1000, 5000, 30_000, 120_000)
"""How long a message waits before its next attempt, by attempts that were not acknowledged in time."""


class Post:
    """The messages owed to peers."""

    def __init__(self, state: HubState) -> None:
        self._state = state

    def post(self, peer: Peer, letter: Letter, turn: Turn) -> None:
        """Owe `letter` to `peer`, and deliver it at once where nothing is before it."""
        mailbox = peer.mailbox
        self._state.writes.deliveries.append((peer.id, letter.rank, letter.seq))
        if peer.sessions and mailbox.is_empty_handed:
            message: Record = []
            for session in peer.sessions:
                if session.credit > 0:
                    if not message:
                        mailbox.hand(letter)
                        self._lease(letter, turn)
                        message = letter.record()
                    letter.holders.add(session.link)
                    session.credit -= 1
                    session.letters[letter.seq] = letter
                    turn.send(session.link, message)
            if message:
                return
        mailbox.put(letter)
        if peer.sessions:  # what is before it may only have to wait for its next attempt
            self.push(peer, turn)

    def broadcast(self, sender: Session, letter_of: Letter, turn: Turn) -> None:
        """Owe a message to every matrix the hub knows, connected or not, but its sender."""
        for peer in self._state.roster.matrices():
            if peer is sender.peer:
                continue
            if peer.mailbox.count >= MAILBOX_MESSAGES_MAX:
                self._state.writes.dead.append((letter_of.seq, peer.id, "mailbox full", turn.now_ms))
                self._state.counts["dead"] += 1
                continue
            self.post(peer, letter_of.copy(), turn)

    def push(self, peer: Peer, turn: Turn) -> None:
        """Deliver what waits for `peer`, as far as its sessions have credit."""
        mailbox = peer.mailbox
        sessions = [session for session in peer.sessions if session.credit > 0]
        if not sessions:
            return
        for letter in mailbox.take(turn.at_ms):
            self._lease(letter, turn)
            if letter.attempt > 1:
                self._state.writes.attempts.append((letter.attempt, peer.id, letter.rank, letter.seq))
                self._state.counts["redelivered"] += 1
            message = letter.record()
            for session in sessions:
                session.credit -= 1
                session.letters[letter.seq] = letter
                letter.holders.add(session.link)
                turn.send(session.link, message)
            sessions = [session for session in sessions if session.credit > 0]
            if not sessions:
                return
        after = mailbox.wants
        if after is not None:
            mailbox.is_fetching = True
            turn.fetches.append(Fetch("mailbox", peer.id, after, WINDOW_MESSAGES))

    def refill(self, peer: Peer, rows: list[tuple[Any, ...]], *, is_all: bool, turn: Turn) -> None:
        """Take in rows of the database: (seq, rank, attempt, sender, to, ms, options, body) each."""
        peer.mailbox.refill((Letter(*row) for row in rows), is_all=is_all)
        self.push(peer, turn)

    def ack(self, session: Session, pairs: list[Any], turn: Turn) -> None:
        """Settle deliveries, named flat as seq, lease, seq, lease, …; those of another lease are ignored."""
        if len(pairs) % 2:
            raise Malformed("ACK must have pairs of seq and lease")
        peer, mine = session.peer, session.letters
        in_flight = peer.mailbox.in_flight
        settled = self._state.writes.settled
        taken = 0
        for place in range(0, len(pairs), 2):
            seq = pairs[place]
            letter = mine.get(seq) if type(seq) is int else None
            if letter is None or letter.lease != pairs[place + 1]:
                self._state.counts["stale_acks"] += 1
                continue
            del mine[seq]
            in_flight.pop(seq, None)
            taken += 1
            settled.append((peer.id, letter.rank, seq))
            if len(letter.holders) > 1:
                self._forget_elsewhere(letter, session)
        peer.mailbox.count -= taken
        self._state.counts["acked"] += taken
        if peer.mailbox.wants is not None:
            self.push(peer, turn)

    def nak(self, session: Session, letter: Letter, *, delay_ms: int, turn: Turn) -> None:
        """The recipient does not take `letter` now."""
        self._let_go(session, letter, delay_ms=delay_ms, turn=turn)

    def read(self, peer: Peer, seqs: list[int], turn: Turn) -> None:
        """Settle messages that were read out of the inbox, wherever they are."""
        writes = self._state.writes
        for seq in seqs:
            letter = peer.mailbox.settle(seq)
            if letter is None:  # not in memory: it is in the database under one of the ranks, or nowhere
                writes.settled.extend((peer.id, rank, seq) for rank in range(4))
                continue
            for session in peer.sessions:
                session.letters.pop(seq, None)
            writes.settled.append((peer.id, letter.rank, seq))
        turn.fetches.append(Fetch("count", peer.id, (0, 0), 1))

    def session_ended(self, session: Session, turn: Turn) -> None:
        """What only `session` had is delivered again."""
        for letter in list(session.letters.values()):
            self._let_go(session, letter, delay_ms=0, turn=turn)
        self.push(session.peer, turn)

    def tick(self, turn: Turn) -> None:
        """Deliver again what was not acknowledged within its lease, and what had to wait until now."""
        for peer in self._state.roster.peers.values():
            for letter in list(peer.mailbox.in_flight.values()):
                if letter.due_ms <= turn.at_ms:
                    self._forget_elsewhere(letter, None)
                    letter.holders.clear()
                    self._wait(peer, letter, delay_ms=_RETRY_MS[min(letter.attempt, len(_RETRY_MS) - 1)], turn=turn)
            if peer.sessions and not peer.mailbox.is_empty_handed:
                self.push(peer, turn)

    def _lease(self, letter: Letter, turn: Turn) -> None:
        letter.attempt += 1
        letter.lease = next(self._state.numbers.leases)
        letter.due_ms = turn.at_ms + _DELIVERY_LEASE_MS

    def _let_go(self, session: Session, letter: Letter, *, delay_ms: int, turn: Turn) -> None:
        session.letters.pop(letter.seq, None)
        letter.holders.discard(session.link)
        if not letter.holders:
            self._wait(session.peer, letter, delay_ms=delay_ms, turn=turn)

    def _wait(self, peer: Peer, letter: Letter, *, delay_ms: int, turn: Turn) -> None:
        if letter.attempt >= DELIVERY_ATTEMPTS_MAX:
            peer.mailbox.settle(letter.seq)
            self._state.writes.settled.append((peer.id, letter.rank, letter.seq))
            self._state.writes.dead.append((letter.seq, peer.id, "too many attempts", turn.now_ms))
            self._state.counts["dead"] += 1
        else:
            peer.mailbox.put_back(letter, not_before_ms=turn.at_ms + delay_ms)

    def _forget_elsewhere(self, letter: Letter, session: Session | None) -> None:
        for link in letter.holders:
            other = self._state.roster.sessions.get(link)
            if other is not None and other is not session:
                other.letters.pop(letter.seq, None)
