"""The hub's decider: takes records and the time, gives rows to write and records to send. Pure.

One turn of the loop is: `receive` for each frame, `lost` for each connection that went away, `tick` now and then, and
`finish`. Then the shell commits `writes` and sends what the `Turn` owes. Nothing here does I/O, so the same machine
runs in the tests under a clock and a network of their own.

`_send` and `_ack` run once per message. They avoid look-ups and helper calls where that was measured to matter
(together 4 µs a message on the machine of bench/README.md).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from orchestra.address import Address, Kind, parse_address
from orchestra.errors import (
    BadAddress,
    BadOption,
    HubFull,
    MailboxFull,
    Malformed,
    NoSession,
    NotAllowed,
    PeerError,
    StaleLease,
    UnknownRecipient,
)
from orchestra.limits import (
    CREDIT_MAX,
    DELIVERY_ATTEMPTS_MAX,
    DELIVERY_LEASE_S,
    LEASE_S,
    LIST_ITEMS_MAX,
    MAILBOX_MESSAGES_MAX,
    SLOTS_MAX,
    SUBSCRIPTIONS_MAX,
    TASK_LOSSES_MAX,
    WATCHES_MAX,
    WINDOW_MESSAGES,
)
from orchestra.task import OUTCOMES, RANK, Priority, TaskState
from orchestra.wire import (
    ACK,
    BYE,
    CALL,
    CANCEL,
    CREDIT,
    DELIVER,
    ERROR,
    EVENT,
    HELLO,
    MESSAGE,
    NAK,
    PING,
    PONG,
    PROGRESS,
    REQUEST,
    RESPONSE,
    RESULT,
    SEND,
    TASK,
    Fault,
    Record,
    pack,
)

from . import calls, grants, hello
from .board import Board, Task
from .mailbox import Letter, Mailbox
from .requests import Requests
from .roster import Origin, Peer, Roster, Session
from .snapshot import Snapshot
from .turn import Fetch, Link, Query, Turn, Writes

_NORMAL: Final = RANK[Priority.NORMAL]
_LEASE_MS: Final = int(LEASE_S * 1000)
_DELIVERY_LEASE_MS: Final = int(DELIVERY_LEASE_S * 1000)
_RETRY_MS: Final = (0, 1000, 5000, 30_000, 120_000)
"""How long a message waits before its next attempt, by attempts that were not acknowledged in time."""
ADDRESSES_MAX: Final = 100_000  # peers, queues and channels that ever were; each costs a row and a few hundred bytes


class Numbers:
    """Where session and lease numbers come from: never the same twice, in no life of the hub.

    `boot` counts those lives; each may use 2^40 leases and 2^20 sessions.
    """

    def __init__(self, boot: int) -> None:
        self.sessions = itertools.count((boot << 20) + 1)
        self.leases = itertools.count((boot << 40) + 1)


class Decider:
    """The state of the hub in memory, and the rules.

    `writes` collects the rows owed to the database; the shell replaces it with a new one after each commit.
    """

    def __init__(self, snapshot: Snapshot, numbers: Numbers, *, facts: dict[str, Any], at_ms: int) -> None:
        self.writes = Writes()
        self.roster = Roster()
        self.board = Board()
        self.requests = Requests()
        self.facts = facts
        self.counts: Counter[str] = Counter()
        """What happened since the start: stored, delivered, acked, refused, stale acks, … by name."""
        self.keys: dict[str, str] = dict(snapshot.keys)
        """Public key (Z85) → the address it proves; the ZAP handler looks here."""
        self._seq = snapshot.last_seq
        self._ids: dict[str, int] = {text: number for number, text in snapshot.addresses.items()}
        self._texts: dict[int, str] = dict(snapshot.addresses)
        self._last_id = max(snapshot.addresses, default=0)
        self._last_origin = snapshot.last_origin
        self._numbers = numbers
        self._subscribers: dict[int, dict[Link, None]] = {}
        self._changed: dict[int, Task] = {}
        self._verbs: dict[int, Callable[[Session, Record, Turn], None]] = {
            SEND: self._send,
            ACK: self._ack,
            CREDIT: self._credit,
            PING: self._ping,
            PONG: self._nothing,
            PROGRESS: self._progress,
            RESULT: self._result,
            NAK: self._nak,
            CALL: self._call,
            REQUEST: self._request,
            RESPONSE: self._response,
            BYE: self._bye,
        }
        self._load(snapshot, at_ms)

    # What the shell calls.

    def receive(self, link: Link, peer_text: str, records: list[Record], faults: Iterable[Fault], turn: Turn) -> None:
        """Decide what `peer_text` (proved by its key) says on `link`."""
        session = self.roster.sessions.get(link)
        if session is not None and session.peer.text != peer_text:  # a stolen routing id: not this peer's session
            self.counts["stolen_link"] += 1
            turn.kicks.append(link)
            return
        for record in records:
            try:
                if session is not None:
                    session.heard_ms = turn.at_ms
                    self._verbs.get(record[0], self._again)(session, record, turn)
                elif record[0] == HELLO:
                    session = hello.welcome(self, link, peer_text, record, turn)
                else:
                    raise NoSession("say HELLO first")
            except PeerError as error:
                self._refuse(link, record[0], _ref(record), error, turn)
        for fault in faults:
            self._refuse(link, fault.verb, fault.ref, fault.error, turn)

    def lost(self, link: Link, turn: Turn) -> None:
        """The connection `link` is gone; its peer may come back within its lease."""
        session = self.roster.sessions.get(link)
        if session is not None:
            self.end(session, turn)

    def tick(self, turn: Turn) -> None:
        """Let time do its work: silent sessions, lapsed leases, deliveries nobody acknowledged, deadlines."""
        for session in self.roster.silent(before_ms=turn.at_ms - _LEASE_MS):
            self.counts["silent"] += 1
            turn.send(session.link, [BYE, "silent", f"nothing was heard for {LEASE_S:.0f} s; say HELLO again"])
            turn.kicks.append(session.link)
            self.end(session, turn)
        for holder, (until_ms, tasks) in list(self.board.adrift.items()):
            if turn.at_ms >= until_ms:
                del self.board.adrift[holder]
                self.lose(tasks.values(), turn)
        for peer in self.roster.peers.values():
            if peer.mailbox.in_flight:
                self._retry_late(peer, turn)
            if peer.sessions:
                self.push(peer, turn)
        self.requests.expire(turn)

    def loaded(self, fetch: Fetch, rows: list[Any], turn: Turn) -> None:
        """Take in the rows that `fetch` asked for: (seq, rank, attempt, sender, to, ms, options, body) each."""
        if fetch.what == "channel":
            self._catch_up(fetch, rows, turn)
            return
        peer = self.roster.peers.get(self._texts[fetch.recipient])
        if peer is None:
            return
        if fetch.what == "count":
            peer.mailbox.count = rows[0]
            return
        peer.mailbox.refill((Letter(*row) for row in rows), is_all=len(rows) < fetch.rows_max)
        self.push(peer, turn)

    def finish(self, turn: Turn) -> None:
        """End the turn: match waiting tasks with free agents, and say which rows changed."""
        for task, session in self.board.matches():
            self._assign(task, session, turn)
        for seq, task in self._changed.items():
            self.writes.tasks[seq] = task.row()
        self._changed.clear()

    # Sessions.

    def end(self, session: Session, turn: Turn, *, keep_tasks: bool = True) -> None:
        """Forget a session. What it was sent goes to others or waits; its tasks wait for it until its lease ends."""
        link, peer = session.link, session.peer
        self.roster.leave(session)
        self.board.withdraw(session)
        self.requests.drop(link, turn)
        for channel in session.subscriptions:
            self._subscribers.get(channel, {}).pop(link, None)
        for seq in session.watched:
            task = self.board.tasks.get(seq)
            if task is not None:
                task.watchers.discard(link)
        for letter in list(session.letters.values()):
            letter.holders.discard(link)
            if not letter.holders:
                self._wait_again(peer, letter, delay_ms=0, turn=turn)
        if session.tasks and keep_tasks:
            self.board.adrift[peer.id] = (session.heard_ms + _LEASE_MS, dict(session.tasks))
        session.letters.clear()
        peer.seen_ms = turn.now_ms
        self.push(peer, turn)

    def open_session(
        self,
        link: Link,
        peer: Peer,
        epoch: bytes,
        credit: int,
        slots: int,
        queues: tuple[str, ...],
        about: dict[str, str],
        turn: Turn,
    ) -> Session:
        """Make the session of a HELLO that was found good."""
        session = Session(
            link=link,
            number=next(self._numbers.sessions),
            peer=peer,
            epoch=epoch,
            credit=credit,
            slots=slots,
            queues=queues,
            about=about,
            since_ms=turn.now_ms,
            heard_ms=turn.at_ms,
            origin=self.roster.origin_of(peer, epoch),
        )
        self.roster.join(session)
        return session

    # Verbs.

    def _send(self, session: Session, record: Record, turn: Turn) -> None:
        _, n, to, kind, body, options = record
        origin = session.origin or self._new_origin(session)
        if n <= origin.last_n:
            turn.queries.append(Query(session.link, n, "sent_before", {"origin": origin.id}))
            return
        rank, watch, kept = (_NORMAL, False, None) if not options else _options(options, kind)
        seq = self._seq + 1
        if kind == MESSAGE:
            peer = self.roster.peers.get(to)
            if peer is not None:
                if peer.mailbox.count >= MAILBOX_MESSAGES_MAX:
                    raise MailboxFull(f"{MAILBOX_MESSAGES_MAX} messages wait for {to}; try again when it has read some")
                recipient = peer.id
                self._post(peer, Letter(seq, rank, 0, session.peer.text, to, turn.now_ms, kept, body), turn)
            else:
                recipient = self._send_elsewhere(session, seq, rank, to, kept, body, turn)
        elif kind == TASK:
            recipient = self._submit(session, seq, rank, to, kept, body, watch, turn)
        else:
            raise Malformed(f"kind {kind} of a SEND is not known; 0 is a message, 1 a task")
        self._seq = seq
        origin.last_n = n
        origin.last_seq = seq
        writes = self.writes
        writes.origins[origin.id] = origin
        writes.messages.append(
            (seq, origin.id, n, recipient, kind, rank, turn.now_ms, pack(kept) if kept else None, body)
        )
        turn.sent(session.link, n, seq)

    def _post(self, peer: Peer, letter: Letter, turn: Turn) -> None:
        """Owe `letter` to `peer`, and deliver it at once where nothing is before it."""
        mailbox = peer.mailbox
        self.writes.deliveries.append((peer.id, letter.rank, letter.seq))
        if peer.sessions and mailbox.is_empty_handed:
            for session in peer.sessions:
                if session.credit > 0:
                    if not letter.holders:
                        mailbox.hand(letter)
                        self._lease(letter, turn)
                        message = letter.record()
                    letter.holders.add(session.link)
                    session.credit -= 1
                    session.letters[letter.seq] = letter
                    turn.send(session.link, message)
            if letter.holders:
                return
        mailbox.put(letter)

    def _lease(self, letter: Letter, turn: Turn) -> None:
        letter.attempt += 1
        letter.lease = next(self._numbers.leases)
        letter.due_ms = turn.at_ms + _DELIVERY_LEASE_MS

    def _ack(self, session: Session, record: Record, turn: Turn) -> None:
        mine = session.letters
        peer = session.peer
        in_flight = peer.mailbox.in_flight
        settled = self.writes.settled
        pairs = record[1]
        if len(pairs) % 2:
            raise Malformed("ACK must have pairs of seq and lease")
        taken = 0
        for place in range(0, len(pairs), 2):
            seq = pairs[place]
            letter = mine.get(seq) if type(seq) is int else None
            if letter is None or letter.lease != pairs[place + 1]:
                self.counts["stale_acks"] += 1
                continue
            del mine[seq]
            in_flight.pop(seq, None)
            taken += 1
            settled.append((peer.id, letter.rank, seq))
            if len(letter.holders) > 1:
                self._forget_elsewhere(letter, session)
        peer.mailbox.count -= taken
        self.counts["acked"] += taken
        if peer.mailbox.wants is not None:
            self.push(peer, turn)

    def _forget_elsewhere(self, letter: Letter, session: Session) -> None:
        for link in letter.holders:
            other = self.roster.sessions.get(link)
            if other is not None and other is not session:
                other.letters.pop(letter.seq, None)

    def _nak(self, session: Session, record: Record, turn: Turn) -> None:
        _, lease, seq, _, _, delay_ms = record
        task = session.tasks.get(seq)
        letter = session.letters.get(seq)
        if task is not None and task.lease == lease:
            self._release(session, task)
            if task.cancel_why is not None:
                self.cancel_now(task, turn)
            else:
                self._requeue(task, turn)
        elif letter is not None and letter.lease == lease:
            del session.letters[seq]
            letter.holders.discard(session.link)
            if not letter.holders:
                self._wait_again(session.peer, letter, delay_ms=delay_ms, turn=turn)
        else:
            raise StaleLease(f"{seq} is not held under lease {lease}")

    def _credit(self, session: Session, record: Record, turn: Turn) -> None:
        _, messages, slots = record
        session.credit = min(session.credit + messages, CREDIT_MAX)
        if slots is not None:
            if slots:
                grants.check_serve(session.peer.address)
            session.slots = min(slots, SLOTS_MAX)
            self.board.serve(session)
        self.push(session.peer, turn)
        for channel, cursor in session.subscriptions.items():
            if cursor < 0:
                self.fetch_channel(session, channel, turn)

    def _ping(self, session: Session, record: Record, turn: Turn) -> None:
        turn.send(session.link, [PONG, record[1]])

    def _nothing(self, session: Session, record: Record, turn: Turn) -> None:
        """PONG: that it was heard is all there is to it."""

    def _again(self, session: Session, record: Record, turn: Turn) -> None:
        raise Malformed("HELLO may be said once on a connection")

    def _bye(self, session: Session, record: Record, turn: Turn) -> None:
        """A session ends in order: it holds nothing any more that it would come back for."""
        self.give_back(session.tasks.values(), turn)
        session.tasks.clear()
        self.end(session, turn, keep_tasks=False)

    def _call(self, session: Session, record: Record, turn: Turn) -> None:
        calls.answer(self, session, record[1], record[2], record[3], turn)

    def _request(self, session: Session, record: Record, turn: Turn) -> None:
        _, ref, to, wait_ms, body = record
        peer = self.roster.peers.get(to)
        if peer is None:
            raise _unknown(to)
        self.requests.ask(session, ref, peer, wait_ms, body, turn)

    def _response(self, session: Session, record: Record, turn: Turn) -> None:
        self.requests.answer(session, record[1], record[2], record[3], turn)

    # Messages.

    def _send_elsewhere(
        self, session: Session, seq: int, rank: int, to: str, options: dict[str, Any] | None, body: bytes, turn: Turn
    ) -> int:
        """Send to what is not one peer: a broadcast or a channel. Return the recipient's id."""
        address = parse_address(to)
        if address.kind is Kind.EVERYONE:
            grants.check_broadcast(session.peer.address)
            for peer in self.roster.matrices():
                if peer is session.peer:
                    continue
                if peer.mailbox.count >= MAILBOX_MESSAGES_MAX:
                    self.writes.dead.append((seq, peer.id, "mailbox full", turn.now_ms))
                    self.counts["dead"] += 1
                    continue
                self._post(peer, Letter(seq, rank, 0, session.peer.text, to, turn.now_ms, options, body), turn)
            return self.id_of(to)
        if address.kind is Kind.CHANNEL:
            channel = self._ids.get(to)
            if channel is None:
                raise UnknownRecipient(f"there is no {to}; the built-in channels are {', '.join(BUILT_IN)}")
            self.writes.entries.append((channel, seq))
            for link in list(self._subscribers.get(channel, ())):
                subscriber = self.roster.sessions[link]
                record = [DELIVER, 0, 1, seq, session.peer.text, to, MESSAGE, turn.now_ms, options, body]
                self._publish(subscriber, channel, seq, record, turn)
            return channel
        if address.kind is Kind.QUEUE:
            raise BadAddress(f"{to} takes tasks, not messages; send to a peer, a channel or *")
        raise _unknown(to)

    def push(self, peer: Peer, turn: Turn) -> None:
        """Deliver what waits for `peer`, as far as its sessions have credit."""
        mailbox = peer.mailbox
        sessions = [session for session in peer.sessions if session.credit > 0]
        if not sessions:
            return
        for letter in mailbox.take(turn.at_ms):
            self._lease(letter, turn)
            if letter.attempt > 1:
                self.writes.attempts.append((letter.attempt, peer.id, letter.rank, letter.seq))
                self.counts["redelivered"] += 1
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

    def _retry_late(self, peer: Peer, turn: Turn) -> None:
        for letter in list(peer.mailbox.in_flight.values()):
            if letter.due_ms <= turn.at_ms:
                for link in letter.holders:
                    self.roster.sessions[link].letters.pop(letter.seq, None)
                letter.holders.clear()
                delay_ms = _RETRY_MS[min(letter.attempt, len(_RETRY_MS) - 1)]
                self._wait_again(peer, letter, delay_ms=delay_ms, turn=turn)

    def _wait_again(self, peer: Peer, letter: Letter, *, delay_ms: int, turn: Turn) -> None:
        if letter.attempt >= DELIVERY_ATTEMPTS_MAX:
            peer.mailbox.settle(letter.seq)
            self.writes.settled.append((peer.id, letter.rank, letter.seq))
            self.writes.dead.append((letter.seq, peer.id, "too many attempts", turn.now_ms))
            self.counts["dead"] += 1
        else:
            peer.mailbox.put_back(letter, not_before_ms=turn.at_ms + delay_ms)

    # Channels. A cursor is the seq of the newest entry the session was sent; -1 - seq says that it is behind.

    def subscribe(self, session: Session, to: str, after: int | None, turn: Turn) -> int:
        """Send every entry of `to` after seq `after` (None: from now on) to `session`, as its credit allows.

        Returns the seq after which the entries come.
        """
        channel = self._ids.get(to)
        if channel is None or parse_address(to).kind is not Kind.CHANNEL:
            raise UnknownRecipient(f"there is no {to}; the built-in channels are {', '.join(BUILT_IN)}")
        if channel not in session.subscriptions and len(session.subscriptions) >= SUBSCRIPTIONS_MAX:
            raise HubFull(f"one session may follow {SUBSCRIPTIONS_MAX} channels")
        self._subscribers.setdefault(channel, {})[session.link] = None
        session.subscriptions[channel] = self._seq if after is None else -1 - after
        if after is not None:
            self.fetch_channel(session, channel, turn)
        return self._seq if after is None else after

    def unsubscribe(self, session: Session, to: str) -> None:
        channel = self._ids.get(to, 0)
        session.subscriptions.pop(channel, None)
        self._subscribers.get(channel, {}).pop(session.link, None)

    def fetch_channel(self, session: Session, channel: int, turn: Turn) -> None:
        if session.credit > 0:
            after = -1 - session.subscriptions[channel]
            turn.fetches.append(
                Fetch("channel", channel, (0, after), min(session.credit, WINDOW_MESSAGES), session.link)
            )

    def _publish(self, session: Session, channel: int, seq: int, record: Record, turn: Turn) -> None:
        cursor = session.subscriptions[channel]
        if cursor < 0:
            return
        if session.credit > 0:
            session.credit -= 1
            session.subscriptions[channel] = seq
            turn.send(session.link, record)
        else:
            session.subscriptions[channel] = -1 - cursor

    def _catch_up(self, fetch: Fetch, rows: list[Any], turn: Turn) -> None:
        session = self.roster.sessions.get(fetch.link)
        cursor = session.subscriptions.get(fetch.recipient) if session else None
        if session is None or cursor is None or cursor >= 0 or -1 - cursor != fetch.after[1]:
            return
        for seq, _, _, sender, to, time_ms, options, body in rows:
            if session.credit <= 0:
                return
            session.credit -= 1
            session.subscriptions[fetch.recipient] = -1 - seq
            turn.send(session.link, [DELIVER, 0, 1, seq, sender, to, MESSAGE, time_ms, options, body])
        if len(rows) < fetch.rows_max:
            session.subscriptions[fetch.recipient] = self._seq
        else:
            self.fetch_channel(session, fetch.recipient, turn)

    # Tasks.

    def _submit(
        self,
        session: Session,
        seq: int,
        rank: int,
        to: str,
        options: dict[str, Any] | None,
        body: bytes,
        watch: bool,
        turn: Turn,
    ) -> int:
        grants.check_submit(session.peer.address)
        address = parse_address(to)
        if address.kind is Kind.AGENT:
            if to not in self.roster.peers:
                raise _unknown(to)
        elif address.kind is not Kind.QUEUE:
            raise BadAddress(f"{to} takes no tasks; submit to agent/NAME or queue/NAME")
        if self.board.is_full:
            raise HubFull(f"{len(self.board.tasks)} tasks are unfinished; try again when some are done")
        recipient = self.id_of(to)
        task = Task(seq, rank, session.peer.text, to, recipient, turn.now_ms, options, body, updated_ms=turn.now_ms)
        self.board.add(task)
        self._changed[seq] = task
        if watch:
            self.watch(session, task)
        return recipient

    def watch(self, session: Session, task: Task) -> None:
        """Send what happens to `task` to `session`."""
        if len(session.watched) >= WATCHES_MAX:
            session.watched = {seq for seq in session.watched if seq in self.board.tasks}
        if len(session.watched) < WATCHES_MAX:
            task.watchers.add(session.link)
            session.watched.add(task.seq)

    def _assign(self, task: Task, session: Session, turn: Turn) -> None:
        task.move(TaskState.WORKING, now_ms=turn.now_ms)
        task.attempt += 1
        task.lease = next(self._numbers.leases)
        task.holder, task.holder_text = session.peer.id, session.peer.text
        task.generation = session.peer.generation
        session.tasks[task.seq] = task
        self._changed[task.seq] = task
        turn.send(session.link, task.record())
        self._tell(task, turn)

    def _progress(self, session: Session, record: Record, turn: Turn) -> None:
        _, seq, lease, data = record
        task = self._held(session, seq, lease)
        for link in task.watchers:
            turn.send(link, [PROGRESS, seq, task.attempt, data])

    def _result(self, session: Session, record: Record, turn: Turn) -> None:
        _, n, seq, lease, outcome, report, output = record
        origin = session.origin or self._new_origin(session)
        if n <= origin.last_n:
            turn.queries.append(Query(session.link, n, "sent_before", {"origin": origin.id, "task": seq}))
            return
        task = self._held(session, seq, lease)
        if outcome not in OUTCOMES:
            raise Malformed(f"an agent may report {', '.join(sorted(OUTCOMES))}")
        self._release(session, task)
        task.move(TaskState(outcome), now_ms=turn.now_ms)
        origin.last_n = n
        self.writes.origins[origin.id] = origin
        self._close(task, report, output, turn, result=(origin.id, n))
        turn.sent(session.link, n, seq)

    def _held(self, session: Session, seq: int, lease: int) -> Task:
        task = session.tasks.get(seq)
        if task is None or task.lease != lease:
            self.counts["stale_leases"] += 1
            raise StaleLease(f"task {seq} is not held under lease {lease}; stop working on it")
        return task

    def _release(self, session: Session, task: Task) -> None:
        session.tasks.pop(task.seq, None)
        self.board.serve(session)

    def _close(
        self, task: Task, report: dict[str, Any], output: bytes, turn: Turn, *, result: tuple[int, int] | None = None
    ) -> None:
        """Write down a task that is over, and tell everyone who watches."""
        self._changed.pop(task.seq, None)
        self.writes.tasks[task.seq] = task.row(result=result, report=pack(report), output=output)
        self.board.close(task)
        self.counts[task.state.value] += 1
        for link in task.watchers:
            turn.send(link, [RESULT, task.seq, task.attempt, task.state.value, report, output])
            watcher = self.roster.sessions.get(link)
            if watcher is not None:
                watcher.watched.discard(task.seq)

    def _tell(self, task: Task, turn: Turn) -> None:
        for link in task.watchers:
            turn.send(link, [EVENT, "task", task.facts()])

    def _requeue(self, task: Task, turn: Turn) -> None:
        self.board.requeue(task, now_ms=turn.now_ms)
        self._changed[task.seq] = task
        self._tell(task, turn)

    def give_back(self, tasks: Iterable[Task], turn: Turn) -> None:
        """Let tasks wait again whose agent stopped in order, or never had them."""
        for task in list(tasks):
            if task.cancel_why is not None:
                self.cancel_now(task, turn)
            else:
                self._requeue(task, turn)

    def lose(self, tasks: Iterable[Task], turn: Turn) -> None:
        """Let tasks wait again whose agent is taken for dead; one that outlived too many agents is dead itself."""
        for task in list(tasks):
            task.losses += 1
            self.counts["lost_leases"] += 1
            if task.losses >= TASK_LOSSES_MAX and task.cancel_why is None:
                task.move(TaskState.DEAD, now_ms=turn.now_ms)
                report = {"code": "too_many_losses", "text": f"{task.losses} agents were lost while they worked on it"}
                self.writes.dead.append((task.seq, task.recipient, "too many agents lost", turn.now_ms))
                self._close(task, report, b"", turn)
            else:
                self.give_back([task], turn)

    def cancel(self, task: Task, why: str, turn: Turn) -> None:
        """Cancel a waiting task now; tell the agent of a working one to stop, which ends it."""
        if task.state is TaskState.QUEUED:
            task.cancel_why = why
            self.cancel_now(task, turn)
            return
        if task.cancel_why is None:
            task.cancel_why = why
            self._changed[task.seq] = task
        for session in self.roster.sessions.values():
            if session.tasks.get(task.seq) is task:
                turn.send(session.link, [CANCEL, task.seq, task.lease, why])

    def cancel_now(self, task: Task, turn: Turn) -> None:
        task.move(TaskState.CANCELED, now_ms=turn.now_ms)
        self._close(task, {"code": "canceled", "text": task.cancel_why or "canceled"}, b"", turn)

    # Names and numbers.

    def id_of(self, text: str) -> int:
        """Return the number of an address, made now if it is new."""
        number = self._ids.get(text)
        if number is None:
            if len(self._ids) >= ADDRESSES_MAX:
                raise HubFull(f"{ADDRESSES_MAX} addresses are known; use one that exists")
            self._last_id += 1
            number = self._last_id
            self._ids[text], self._texts[number] = number, text
            self.writes.addresses.append((number, text))
        return number

    def add_peer(self, address: Address, public_key: str, turn: Turn) -> Peer:
        """Register `public_key` for `address`; the same key twice changes nothing.

        Raises:
            NotAllowed: if the key proves another address already.
        """
        text = str(address)
        if self.keys.get(public_key, text) != text:
            raise NotAllowed(f"this key belongs to {self.keys[public_key]} already; make a new one for {text}")
        peer = self.roster.peers.get(text)
        if peer is None:
            number = self.id_of(text)
            peer = Peer(number, address, text, 0, None, turn.now_ms, Mailbox(number))
            self.roster.add_peer(peer)
            self.writes.peers[number] = peer
        if public_key not in self.keys:
            self.keys[public_key] = text
            self.writes.keys.append((public_key, peer.id, turn.now_ms))
        return peer

    def _new_origin(self, session: Session) -> Origin:
        self._last_origin += 1
        origin = Origin(self._last_origin, session.peer.id, session.epoch, 0, self._seq, self._seq)
        self.roster.add_origin(origin)
        session.origin = origin
        return origin

    def _refuse(self, link: Link, verb: int, ref: int, error: PeerError, turn: Turn) -> None:
        self.counts["refused"] += 1
        turn.send(link, [ERROR, verb, ref, error.code, str(error)])
        if error.is_fatal:
            turn.kicks.append(link)

    def _load(self, snapshot: Snapshot, at_ms: int) -> None:
        for number, text in snapshot.addresses.items():
            address = parse_address(text)
            if address.is_peer and number in snapshot.peers:
                generation, epoch, seen_ms = snapshot.peers[number]
                mailbox = Mailbox(number, count=snapshot.waiting.get(number, 0))
                self.roster.add_peer(Peer(number, address, text, generation, epoch, seen_ms, mailbox))
        for origin in snapshot.origins:
            self.roster.add_origin(origin)
        for text in BUILT_IN:
            self.id_of(text)
        for task in snapshot.tasks:
            self.board.add(task)
            if task.state is TaskState.WORKING and task.holder is not None:
                task.holder_text = self._texts[task.holder]
                _, held = self.board.adrift.setdefault(task.holder, (at_ms + _LEASE_MS, {}))
                held[task.seq] = task


BUILT_IN: Final = ("channel/announcements", "channel/context", "channel/issues", "channel/status")
"""The channels every hub has."""


def _unknown(to: str) -> PeerError:
    address = parse_address(to)
    if not address.is_peer:
        return BadAddress(f"{to} is not a peer; write agent/NAME, matrix/NAME or operator/NAME")
    return UnknownRecipient(f"no peer {to} is known here; `orchestra peers` lists those that are")


def _options(options: dict[str, Any], kind: int) -> tuple[int, bool, dict[str, Any] | None]:
    """Check the options of a SEND; return its rank, whether its sender watches, and what is kept with the message."""
    rank, watch = _NORMAL, False
    for name, value in options.items():
        if name == "priority":
            if value not in RANK:
                raise BadOption(f"priority must be one of {', '.join(RANK)}")
            rank = RANK[value]
        elif name == "watch" and kind == TASK:
            if type(value) is not bool:
                raise BadOption("watch must be true or false")
            watch = value
        else:
            raise BadOption(f"option {str(name)[:40]!r} is not known")
    kept = {"priority": options["priority"]} if "priority" in options else None
    return rank, watch, kept


_REF_AT: Final = {SEND: 1, RESULT: 1, CALL: 1, REQUEST: 1, RESPONSE: 1, PROGRESS: 1, NAK: 2}
assert LIST_ITEMS_MAX >= 2 * 1024  # an ACK of a whole window fits


def _ref(record: Record) -> int:
    place = _REF_AT.get(record[0])
    return record[place] if place else 0
