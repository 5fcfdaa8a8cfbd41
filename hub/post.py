"""The post: delivers messages to peers, and takes their acknowledgements. Pure.

`post` and `ack` run once per message. They avoid look-ups and helper calls where that was measured to matter.
"""

from __future__ import annotations

from typing import Any, Final

from orchestra.errors import Malformed
from orchestra.limits import (
    CREDIT_MAX,
    DELIVERY_ATTEMPTS_MAX,
    DELIVERY_LEASE_S,
    EXPIRIES_A_TICK_MAX,
    MAILBOX_MESSAGES_MAX,
    WINDOW_MESSAGES,
)
from orchestra.stage import ACKED, DEAD, DELIVERED, READ, STAGES
from orchestra.wire import Record

from .hubstate import HubState
from .mailbox import Letter
from .receipts import Mail
from .roster import Peer, Session
from .turn import Fetch, Turn
from .watches import Watches

_DELIVERY_LEASE_MS: Final = int(DELIVERY_LEASE_S * 1000)
_TEXT_CHARS_MAX: Final = 200  # of what is kept of why a message was not taken
_NEVER_MS: Final = 2**63
_NO_RUN: Final = [0] * 7  # of no peer: ids begin at 1
_RETRY_MS: Final = (0, 1000, 5000, 30_000, 120_000)
"""How long a message waits before its next attempt, by attempts that were not acknowledged in time."""


class Post:
    """The messages owed to peers."""

    def __init__(self, state: HubState) -> None:
        self._state = state
        self.watches = Watches(state)
        self._next_expiry_ms = 0

    def post(self, peer: Peer, letter: Letter, turn: Turn) -> None:
        """Owe `letter` to `peer`, and deliver it at once where nothing is before it."""
        mailbox = peer.mailbox
        self._state.writes.deliveries.append((peer.id, letter.rank, letter.seq))
        if letter.options is not None and "expires_ms" in letter.options:
            self._let_expire(peer, letter)
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
                self._bury(letter_of.seq, peer, "mailbox full", turn)
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
        # What was settled since the last commit is in the database still: it must not come back.
        settled = {seq for recipient, _, seq in self._state.writes.settled if recipient == peer.id}
        letters = [Letter(*row) for row in rows if row[0] not in settled]
        peer.mailbox.refill(letters, is_all=is_all)
        for letter in letters:  # one whose time came while a session had it, and that came back
            if letter.options is not None and letter.seq not in peer.mailbox.in_flight and _is_expired(letter, turn):
                self._expire(peer, letter.rank, letter.seq, turn)
        self.push(peer, turn)

    def ack(self, session: Session, stage: int, pairs: list[Any], turn: Turn) -> None:
        """Note that deliveries came to `stage`, named flat as seq, lease, seq, lease, …; other leases are ignored.

        A message that is only delivered stays in the inbox; one that was read or dealt with is owed no more.
        """
        if len(pairs) % 2:
            raise Malformed("ACK must have pairs of seq and lease")
        if stage == DELIVERED:
            self._confirm(session, pairs, turn)
            return
        if not READ <= stage <= ACKED:
            raise Malformed(f"ACK has the stage {stage}; it must be 1 (delivered), 2 (read) or 3 (acked)")
        peer, mine = session.peer, session.letters
        in_flight = peer.mailbox.in_flight
        settled, receipts = self._state.writes.settled, self._state.writes.receipts
        run = receipts[-1] if receipts else _NO_RUN
        is_mine = run[0] == peer.id and run[1] == stage and run[5] == session.number
        next_seq = run[3] + 1 if is_mine else -1  # consecutive seqs share one receipt
        watched = self.watches.watched
        taken = 0
        letter = None
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
            if seq != next_seq:
                run = [peer.id, stage, seq, seq, turn.now_ms, session.number, session.generation]
                receipts.append(run)
            run[3] = seq
            next_seq = seq + 1
            if len(letter.holders) > 1:
                self._forget_elsewhere(letter, session)
            if letter.is_delivered:
                peer.mailbox.delivered -= 1
            if watched and seq in watched:
                self.watches.tell(seq, peer.text, STAGES[stage], turn)
        peer.mailbox.count -= taken
        self._state.counts["acked"] += taken
        if taken and letter is not None:  # the last one stands for all that were confirmed with it
            self._state.durations.delivery.observe((turn.now_ms - letter.time_ms) / 1000)
        if peer.mailbox.wants is not None:
            self.push(peer, turn)

    def nak(self, session: Session, letter: Letter, *, delay_ms: int, why: str, turn: Turn) -> None:
        """The recipient does not take `letter` now."""
        told = f"did not take it: {why[:_TEXT_CHARS_MAX]}" if why else "did not take it"
        self._let_go(session, letter, told, delay_ms=delay_ms, turn=turn)

    def read(self, session: Session, stage: int, found: list[Mail], turn: Turn) -> int:
        """Settle messages that were read out of the inbox, wherever they are; return how many are at `stage` now."""
        peer, writes = session.peer, self._state.writes
        settled = set(writes.settled)  # not committed yet, so that `found` does not show it
        reached = 0
        for seq, rank, is_delivered, said in found:
            if rank is not None and (peer.id, rank, seq) not in settled:
                if peer.mailbox.settle(seq) is None:
                    peer.mailbox.settle_stored(is_delivered=is_delivered)
                for each in peer.sessions:
                    each.letters.pop(seq, None)
                writes.settled.append((peer.id, rank, seq))
                settled.add((peer.id, rank, seq))
            elif not READ <= said < stage:  # no message of this peer's, or it was said before
                reached += said >= stage
                continue
            reached += 1
            self._note(session, stage, seq, turn)
        return reached

    def session_ended(self, session: Session, turn: Turn) -> None:
        """What only `session` had is delivered again."""
        self.watches.session_ended(session)
        for letter in list(session.letters.values()):
            self._let_go(session, letter, "ended without acknowledging it", delay_ms=0, turn=turn)
        self.push(session.peer, turn)

    def tick(self, turn: Turn) -> None:
        """Deliver again what was not acknowledged within its lease, and what had to wait until now."""
        if turn.now_ms >= self._next_expiry_ms:
            self._next_expiry_ms = _NEVER_MS  # until the rows say otherwise
            turn.fetches.append(Fetch("expired", 0, (0, 0), EXPIRIES_A_TICK_MAX))
        for peer in self._state.roster.peers.values():
            for letter in list(peer.mailbox.in_flight.values()):
                if letter.due_ms <= turn.at_ms and not self._may_stay(letter, turn):
                    holder = self._state.roster.sessions.get(next(iter(letter.holders), None))
                    self._forget_elsewhere(letter, None)
                    letter.holders.clear()
                    delay_ms = _RETRY_MS[min(letter.attempt, len(_RETRY_MS) - 1)]
                    self._wait(peer, letter, holder, "did not acknowledge it in time", delay_ms=delay_ms, turn=turn)
            if peer.sessions and not peer.mailbox.is_empty_handed:
                self.push(peer, turn)

    def _confirm(self, session: Session, pairs: list[Any], turn: Turn) -> None:
        """`session` has these messages; they stay in the inbox, and are not pushed again.

        Other sessions that were sent the same message still hold it: what they say later counts as well.
        """
        peer, writes = session.peer, self._state.writes
        for seq, lease in zip(pairs[::2], pairs[1::2], strict=True):
            letter = session.letters.get(seq) if type(seq) is int else None
            if letter is None or letter.lease != lease:
                self._state.counts["stale_acks"] += 1
                continue
            del session.letters[seq]
            letter.holders.discard(session.link)
            if not letter.holders:
                del peer.mailbox.in_flight[seq]
            if not letter.is_delivered:
                letter.is_delivered = True
                peer.mailbox.delivered += 1
                writes.delivered.append((turn.now_ms, peer.id, letter.rank, seq))
                self._note(session, DELIVERED, seq, turn)
        if peer.mailbox.wants is not None:
            self.push(peer, turn)

    def _note(self, session: Session, stage: int, seq: int, turn: Turn) -> None:
        """Owe the receipt of one message, and tell who watches it."""
        self.watches.tell(seq, session.peer.text, STAGES[stage], turn)
        receipts = self._state.writes.receipts
        if receipts:
            last = receipts[-1]
            if (last[0], last[1], last[3], last[5]) == (session.peer.id, stage, seq - 1, session.number):
                last[3] = seq
                return
        receipts.append([session.peer.id, stage, seq, seq, turn.now_ms, session.number, session.generation])

    def _may_stay(self, letter: Letter, turn: Turn) -> bool:
        """A delivered letter stays with the sessions that may still say more of it, unless they let them pile up."""
        if not letter.is_delivered:
            return False
        holders = [self._state.roster.sessions.get(link) for link in letter.holders]
        if any(session is None or len(session.letters) > CREDIT_MAX for session in holders):
            return False
        letter.due_ms = turn.at_ms + _DELIVERY_LEASE_MS
        return True

    def expire(self, rows: list[tuple[int, int, Mail]], turn: Turn) -> None:
        """Bury what was not delivered in time; `rows` are (ms, recipient, where it is), the earliest first."""
        settled = set(self._state.writes.settled)
        for at_ms, recipient, found in rows:
            if at_ms > turn.now_ms:
                self._next_expiry_ms = min(self._next_expiry_ms, at_ms)
                return
            self._state.writes.expired.append((at_ms, found.seq, recipient))
            peer = self._state.roster.peers[self._state.texts[recipient]]
            is_waiting = found.rank is not None and not found.is_delivered
            if not is_waiting or (recipient, found.rank, found.seq) in settled:
                continue
            if found.seq not in peer.mailbox.in_flight:  # what a session has may still be confirmed; see `_wait`
                assert found.rank is not None
                self._expire(peer, found.rank, found.seq, turn)
        if rows:  # there may be more
            self._next_expiry_ms = 0

    def _let_expire(self, peer: Peer, letter: Letter) -> None:
        at_ms = _expiry_ms(letter)
        self._state.writes.expiries.append((at_ms, letter.seq, peer.id))
        self._next_expiry_ms = min(self._next_expiry_ms, at_ms)

    def _expire(self, peer: Peer, rank: int, seq: int, turn: Turn) -> None:
        if peer.mailbox.settle(seq) is None:
            peer.mailbox.settle_stored(is_delivered=False)
        self._state.writes.settled.append((peer.id, rank, seq))
        self._bury(seq, peer, "expired", turn)

    def _lease(self, letter: Letter, turn: Turn) -> None:
        letter.attempt += 1
        letter.lease = next(self._state.numbers.leases)
        letter.due_ms = turn.at_ms + _DELIVERY_LEASE_MS

    def _let_go(self, session: Session, letter: Letter, why: str, *, delay_ms: int, turn: Turn) -> None:
        session.letters.pop(letter.seq, None)
        letter.holders.discard(session.link)
        if not letter.holders:
            self._wait(session.peer, letter, session, why, delay_ms=delay_ms, turn=turn)

    def _wait(self, peer: Peer, letter: Letter, holder: Session | None, why: str, *, delay_ms: int, turn: Turn) -> None:
        """An attempt at `letter` came to nothing; `holder` had it, and `why` says what it did."""
        if letter.is_delivered:
            peer.mailbox.in_flight.pop(letter.seq, None)
            return
        number, generation = (holder.number, holder.generation) if holder is not None else (0, 0)
        self._state.writes.failed_deliveries.append(
            (letter.seq, peer.id, letter.attempt, number, generation, turn.now_ms, why)
        )
        if letter.attempt >= DELIVERY_ATTEMPTS_MAX:
            peer.mailbox.settle(letter.seq)
            self._state.writes.settled.append((peer.id, letter.rank, letter.seq))
            self._bury(letter.seq, peer, "too many attempts", turn)
        elif letter.options is not None and _is_expired(letter, turn):
            self._expire(peer, letter.rank, letter.seq, turn)
        else:
            peer.mailbox.put_back(letter, not_before_ms=turn.at_ms + delay_ms)

    def _bury(self, seq: int, peer: Peer, reason: str, turn: Turn) -> None:
        self._state.writes.dead.append((seq, peer.id, reason, turn.now_ms))
        self._state.counts["dead"] += 1
        self.watches.tell(seq, peer.text, DEAD, turn, reason=reason)

    def _forget_elsewhere(self, letter: Letter, session: Session | None) -> None:
        for link in letter.holders:
            other = self._state.roster.sessions.get(link)
            if other is not None and other is not session:
                other.letters.pop(letter.seq, None)


def _expiry_ms(letter: Letter) -> int:
    ttl_ms = (letter.options or {}).get("expires_ms")
    return letter.time_ms + ttl_ms if isinstance(ttl_ms, int) else _NEVER_MS


def _is_expired(letter: Letter, turn: Turn) -> bool:
    return _expiry_ms(letter) <= turn.now_ms
