"""The hub's decider: takes records and the time, gives rows to write and records to send. Pure.

One turn of the loop is: `receive` for each frame, `lost` for each connection that went away, `tick` now and then, and
`finish`. Then the shell commits `state.writes`, tells the `feed` what is on disk, and sends what the `Turn` owes.
Nothing here does I/O, so the same machine runs in the tests under a clock and a network of their own.

The decider knows the verbs; the rules behind them are in `post` (messages), `channels`, `tasks`, `requests` and
`calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from orchestra.address import Kind, parse_address
from orchestra.errors import (
    BadAddress,
    BadOption,
    MailboxFull,
    Malformed,
    NoSession,
    NotAllowed,
    PeerError,
    StaleLease,
    TooLarge,
)
from orchestra.limits import CREDIT_MAX, LEASE_S, LIST_ITEMS_MAX, MAILBOX_MESSAGES_MAX, METADATA_BYTES_MAX
from orchestra.stage import DEAD
from orchestra.task import RANK, Priority
from orchestra.terms import TERMS, Terms, read_terms
from orchestra.wire import (
    ACK,
    BYE,
    CALL,
    CREDIT,
    ERROR,
    HELLO,
    MESSAGE,
    NAK,
    PING,
    PONG,
    PROGRESS,
    REPLY,
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
from .audit import Audit
from .board import Task
from .channels import ENTRY_OPTIONS, Channels, check_option
from .conditions import Conditions
from .dead import DeadLetters
from .enrolment import Enrolment
from .feed import Feed
from .hubstate import Archive, EmptyArchive, HubState, Numbers, unknown
from .inputs import Inputs
from .mailbox import Letter, Mailbox
from .post import Post
from .presence import Presence
from .requests import Requests
from .retention import Removal, View
from .roster import Peer, Session
from .snapshot import Snapshot
from .succession import Succession
from .tasks import Tasks
from .tokens import EXPIRED, WITHDRAWN, Signer, Tokens
from .turn import Fetch, Link, Query, SentKey, Turn

_NORMAL: Final = RANK[Priority.NORMAL]
_PLAIN: Final = (_NORMAL, False, None, None)
_LEASE_MS: Final = int(LEASE_S * 1000)
_EXPIRES_MS_MAX: Final = 2**53  # sums stay far below what SQLite can hold
_SEND: Final = grants.SEND
_SAVE_MS: Final = 1000  # a starting hub reads the log of this long again: some 60,000 rows at most


class Decider:
    """The hub in memory."""

    def __init__(
        self,
        snapshot: Snapshot,
        numbers: Numbers,
        *,
        facts: dict[str, Any],
        at_ms: int,
        archive: Archive | None = None,
        sends_per_second: int = 0,
        signer: Signer,
        make_next_key: Callable[[], str],
    ) -> None:
        """Args:
        facts: what `status` tells of the process.
        at_ms: the steady clock, from which the leases of loaded tasks run.
        archive: where is looked up what is not in memory.
        sends_per_second: how many messages and tasks one peer may send; 0 is as many as it can.
        signer: what tokens are signed with.
        make_next_key: makes the hub's next key, or finds it made already, and gives its public half.
        """
        self.facts = facts
        self.state = state = HubState(
            numbers=numbers,
            last_seq=snapshot.last_seq,
            last_origin=snapshot.last_origin,
            keys=dict(snapshot.keys),
            ids={text: number for number, text in snapshot.addresses.items()},
            texts=dict(snapshot.addresses),
            archive=archive or EmptyArchive(),
        )
        for number, known in snapshot.peers.items():
            text = snapshot.addresses[number]
            unread, delivered = snapshot.unread.get(number, (0, 0))
            mailbox = Mailbox(number, count=unread, delivered=delivered)
            peer = Peer(number, parse_address(text), text, known.generation, known.epoch, known.seen_ms, mailbox)
            peer.since_ms, peer.away_ms, peer.away_text = known.since_ms, known.away_ms, known.away_text
            peer.grants = known.grants
            state.roster.add_peer(peer)
        for origin in snapshot.origins:
            state.roster.add_origin(origin)
        # The next save says that all up to its seq is accounted for, so it has to hold these, also if they stay silent.
        state.unsaved.update((origin.id, origin) for origin in snapshot.unsaved)
        self.audit = Audit(state, snapshot.audit)
        self.enrolment = Enrolment(state, snapshot, self.audit)
        self.succession = Succession(state, self.audit, snapshot.next_key, make_next_key)
        self.tokens = Tokens(state, snapshot, self.audit, signer)
        self.conditions = Conditions(state, sends_per_second=sends_per_second)
        self.post = Post(state)
        self.dead = DeadLetters(state, self.post)
        self.channels = Channels(state, snapshot.channels, snapshot.cursors)
        self.tasks = Tasks(state, snapshot.tasks, at_ms=at_ms)
        self.inputs = Inputs(state, self.tasks)
        self.requests = Requests()
        self.presence = Presence(state)
        self.feed = Feed(state, self.tasks.board)
        self._save_due_ms = at_ms
        self._verbs: dict[int, Callable[[Session, Record, Turn], None]] = {
            SEND: self._send,
            ACK: self._ack,
            NAK: self._nak,
            CREDIT: self._credit,
            PROGRESS: self._progress,
            RESULT: self._result,
            PING: self._ping,
            CALL: self._call,
            REQUEST: self._request,
            RESPONSE: self._response,
            BYE: self._bye,
        }

    # What the shell calls.

    def receive(self, link: Link, identity: str, records: list[Record], faults: Iterable[Fault], turn: Turn) -> None:
        """Decide what `identity` says on `link`: an address and the key or token that proved it, or an invitation."""
        session = self.state.roster.sessions.get(link)
        if session is not None and session.identity != identity:  # a stolen routing id: not this peer's session
            self.state.counts["stolen_link"] += 1
            turn.kicks.append(link)
            return
        if session is not None and turn.now_ms >= session.ends_ms:
            self._end_over(session, EXPIRED, turn)
            return
        if session is None and self.enrolment.is_invited(identity):
            for peer in self.enrolment.receive(link, identity, records, turn):
                self._say_hello_again(peer, turn)
            return
        for record in records:
            try:
                if session is not None:
                    session.heard_ms = turn.at_ms
                    self._verbs.get(record[0], self._again)(session, record, turn)
                elif record[0] == HELLO:
                    session = hello.welcome(self, link, identity, record, turn)
                else:
                    raise NoSession("say HELLO first")
            except PeerError as error:
                self._refuse(link, record[0], _ref(record), error, turn)
        for fault in faults:
            self._refuse(link, fault.verb, fault.ref, fault.error, turn)

    def heard_from(self, links: Iterable[Link], turn: Turn) -> None:
        """A transport that pings its connections itself says that these answered."""
        for link in links:
            session = self.state.roster.sessions.get(link)
            if session is not None:
                session.heard_ms = turn.at_ms

    def inquire(self, link: Link, identity: str, records: list[Record], faults: Iterable[Fault], turn: Turn) -> None:
        """Answer CALLs of somebody who has no session, and gets none; those that only read are answered."""
        for record in records:
            try:
                if record[2] not in calls.READS:
                    raise NotAllowed(f"{record[2][:40]!r} needs a session; connect with a WebSocket")
                calls.answer(self, hello.passing(self, link, identity, turn), record[1], record[2], record[3], turn)
            except PeerError as error:
                self._refuse(link, record[0], _ref(record), error, turn)
        for fault in faults:
            self._refuse(link, fault.verb, fault.ref, fault.error, turn)

    def lost(self, link: Link, turn: Turn) -> None:
        """The connection `link` is gone; its peer may come back within its lease."""
        session = self.state.roster.sessions.get(link)
        if session is not None:
            self.end(session, turn)

    def tick(self, turn: Turn) -> None:
        """Let time do its work: silent sessions, lapsed leases, deliveries nobody acknowledged, deadlines."""
        self.end_tokens(self.tokens.ended(turn.now_ms), EXPIRED, turn)
        for session in self.state.roster.silent(before_ms=turn.at_ms - _LEASE_MS):
            self.state.counts["silent"] += 1
            turn.send(session.link, [BYE, "silent", f"nothing was heard for {LEASE_S:.0f} s; say HELLO again"])
            turn.kicks.append(session.link)
            self.end(session, turn)
        for public_key in self.enrolment.ended(turn.now_ms):
            self.revoke("", public_key, turn, is_replaced=True)
        self.tasks.tick(turn)
        self.post.tick(turn)
        self.requests.expire(turn)

    def excuse(self, frozen_ms: int, turn: Turn) -> None:
        """The hub itself did nothing for `frozen_ms`: nobody's silence of that time counts against him."""
        for session in self.state.roster.sessions.values():
            session.heard_ms = min(turn.at_ms, session.heard_ms + frozen_ms)
        self.tasks.excuse(frozen_ms)

    def loaded(self, fetch: Fetch, rows: list[Any], turn: Turn) -> None:
        """Take in the rows that `fetch` asked for."""
        if fetch.what == "channel":
            self.channels.catch_up(fetch, rows, turn)
            return
        if fetch.what == "mailbox":
            peer = self.state.roster.peers[self.state.texts[fetch.recipient]]
            self.post.refill(peer, rows, is_all=len(rows) < fetch.rows_max, turn=turn)
            return
        if fetch.what == "expired":
            self.post.expire(rows, turn)
            return
        session = self.state.roster.sessions.get(fetch.link)
        if session is None:  # it left meanwhile; its client asks again
            return
        if fetch.what == "watch" and (self.state.writes.receipts or self.state.writes.dead):
            turn.fetches.append(fetch)  # the rows are older than these: who begins to watch would never hear of them
            return
        try:
            turn.send(fetch.link, [REPLY, fetch.ref, calls.LOADED[fetch.what](self, session, fetch, rows, turn)])
        except PeerError as error:
            self._refuse(fetch.link, CALL, fetch.ref, error, turn)

    def in_use(self) -> View:
        """Return what retention has to know of memory."""
        state = self.state
        return View(
            everyone=state.ids.get("*", 0),
            owed=lambda: [peer.id for peer in state.roster.matrices() if peer.mailbox.count],
            channels=self.channels.all.values(),
            origins=lambda: {
                *state.unsaved,
                *(session.origin.id for session in state.roster.sessions.values() if session.origin is not None),
            },
        )

    def removed(self, removal: Removal) -> None:
        """Retention removed these rows."""
        self.channels.trimmed(removal.entries)
        for _, peer_id, epoch in removal.origins:
            self.state.roster.forget_origin(peer_id, epoch)

    def finish(self, turn: Turn) -> None:
        """End the turn: `state.writes` and `turn` are complete after this."""
        self.tasks.finish(turn)
        self.feed.changed(self.presence.finish(turn))
        if (self.state.unsaved or self.state.unseen) and turn.at_ms >= self._save_due_ms:
            self.state.save(open_seq=self.tasks.board.first_seq(default=self.state.last_seq + 1))
            self._save_due_ms = turn.at_ms + _SAVE_MS

    def revoke(self, by: str, public_key: str, turn: Turn, *, is_replaced: bool = False) -> str:
        """Let a key or an invitation in no more, and end what it has open; return whose it was.

        What its sessions held goes to others, unless the key was replaced: then its peer comes back for it.

        Raises:
            PeerError: if it is not known, or the last operator's.
        """
        is_key = public_key in self.state.keys
        text = self.enrolment.revoke(by, public_key, now_ms=turn.now_ms)
        if not is_key:  # an invitation has no session
            return text
        peer = self.state.roster.peers[text]
        for session in list(peer.sessions):
            if session.identity == f"{text} {public_key}":
                turn.send(session.link, [BYE, "key_revoked", f"this key of {text} was revoked"])
                turn.kicks.append(session.link)
                self.end(session, turn, is_orderly=not is_replaced)
        if not is_replaced:  # who has the key may have made tokens and invitations with it
            self.end_tokens(self.tokens.revoke_all(peer, by=by, now_ms=turn.now_ms, is_asked=False), WITHDRAWN, turn)
            self.enrolment.revoke_made_by(text, by=by, now_ms=turn.now_ms)
        return text

    def end_tokens(self, identities: Iterable[str], why: PeerError, turn: Turn) -> None:
        """End what is open with these tokens; what the sessions held goes to others."""
        for identity in identities:
            peer = self.state.roster.peers.get(identity.partition(" ")[0])
            for session in list(peer.sessions) if peer is not None else ():
                if session.identity == identity:
                    self._end_over(session, why, turn)

    def _end_over(self, session: Session, why: PeerError, turn: Turn) -> None:
        turn.send(session.link, [BYE, why.code, str(why)])
        turn.kicks.append(session.link)
        self.end(session, turn, is_orderly=True)

    def grant(self, by: str, peer: Peer, given: tuple[str, ...] | None, turn: Turn) -> None:
        """Let `peer` do what `given` says from now on (None: what its kind may); its clients say HELLO again."""
        self.enrolment.grant(by, peer, given, now_ms=turn.now_ms)
        self._say_hello_again(peer, turn)

    def _say_hello_again(self, peer: Peer, turn: Turn) -> None:
        for session in list(peer.sessions):
            turn.send(session.link, [BYE, "grants", f"what {peer.text} may do was changed; say HELLO again"])
            turn.kicks.append(session.link)
            self.end(session, turn)

    def end(self, session: Session, turn: Turn, *, is_orderly: bool = False) -> None:
        """Forget a session. What it was sent goes to others or waits; its tasks wait for it until its lease ends."""
        self.state.roster.leave(session)
        self.presence.left(session, turn)
        self.feed.unwatch(session)
        self.requests.drop(session.link, turn)
        self.channels.session_ended(session)
        self.tasks.session_ended(session, is_orderly=is_orderly, turn=turn)
        self.post.session_ended(session, turn)

    # The verbs.

    def _send(self, session: Session, record: Record, turn: Turn) -> None:
        _, n, to, kind, body, options = record
        state = self.state
        origin = session.origin or state.origin_of(session)
        if options and "key" in options:
            seq_before = self.conditions.sent_under(session.peer, options["key"], kind, to)
            if seq_before is not None:
                turn.sent(session.link, n, seq_before)
                return
        if n <= origin.last_n:
            span = {"origin": origin.id, "after": origin.first_seq, "last": origin.last_seq}
            turn.queries.append(Query(session.link, n, "sent_before", span))
            return
        if self.conditions.sends_per_second:
            self.conditions.meter(session.peer, turn)
        rank, is_watched, kept, terms = _PLAIN if not options else _options(options, kind, to)
        if kept is not None and "reply_to" in kept:
            kept["thread"] = self.conditions.thread_of(session.peer, kept["reply_to"])
        seq = state.last_seq + 1
        sender = session.peer.text
        if kind == MESSAGE:
            if is_watched:
                self._check_watch(session, seq, to)
            peer = state.roster.peers.get(to)
            letter = Letter(seq, rank, 0, sender, to, turn.now_ms, kept, body)
            if (_SEND, to) not in session.granted:
                self._check_send(session, to)
            if peer is not None:
                if peer.mailbox.count >= MAILBOX_MESSAGES_MAX:
                    raise MailboxFull(f"{MAILBOX_MESSAGES_MAX} messages wait for {to}; try again when it has read some")
                recipient = peer.id
                self.post.post(peer, letter, turn)
            else:
                recipient = self._send_to_many(session, letter, options, turn)
        elif kind == TASK:
            task = Task(seq, rank, sender, to, 0, turn.now_ms, kept, body, updated_ms=turn.now_ms)
            self.tasks.submit(session, task, is_watched=is_watched, terms=terms)
            recipient = task.recipient
        else:
            raise Malformed(f"kind {kind} of a SEND is not known; 0 is a message, 1 a task")
        state.last_seq = origin.last_seq = seq
        origin.last_n = n
        state.unsaved[origin.id] = origin
        state.writes.messages.append(
            (seq, origin.id, n, recipient, kind, rank, turn.now_ms, pack(kept) if kept else None, body)
        )
        turn.sent(session.link, n, seq)
        if options:
            self._note_options(session, seq, to, kind, options, kept, turn)

    def _note_options(
        self,
        session: Session,
        seq: int,
        to: str,
        kind: int,
        options: dict[str, Any],
        kept: dict[str, Any] | None,
        turn: Turn,
    ) -> None:
        """Owe the rows that only sends with certain options have, now that nothing can refuse this one any more."""
        if "key" in options:
            sent = SentKey(seq, turn.now_ms, kind, to)
            self.state.writes.send_keys[session.peer.id, options["key"]] = sent
        if kept is not None and "thread" in kept:
            self.state.writes.replies.append((kept["thread"], seq))
        if kind == MESSAGE and options.get("watch"):
            self._watch_sent(session, seq, to, turn)

    def _check_send(self, session: Session, to: str) -> None:
        if to == str(Kind.EVERYONE):
            grants.check_once(session, grants.BROADCAST)
        else:
            grants.check_once(session, grants.SEND, to)

    def _check_watch(self, session: Session, seq: int, to: str) -> None:
        if parse_address(to).kind is Kind.CHANNEL:
            raise BadOption(f"an entry of {to} has no receipts, so it can't be watched or waited for")
        self.post.watches.check_room(session, [seq])

    def _watch_sent(self, session: Session, seq: int, to: str, turn: Turn) -> None:
        """Let the sender watch what it sent; of a broadcast some recipients may have been refused already."""
        self.post.watches.watch(session, seq, to)
        for dead_seq, recipient, reason, _ in list(self.state.writes.dead):
            if dead_seq == seq:
                self.post.watches.tell(seq, self.state.texts[recipient], DEAD, turn, reason=reason)

    def _send_to_many(self, session: Session, letter: Letter, options: dict[str, Any] | None, turn: Turn) -> int:
        """Send to what is not one peer: a broadcast or a channel. Return the recipient's id."""
        address = parse_address(letter.to)
        if address.kind is Kind.EVERYONE:
            recipient = self.state.id_of(letter.to)  # first: it may refuse, and then nothing must be owed
            self.post.broadcast(session, letter, turn)
            return recipient
        if address.kind is Kind.CHANNEL:
            return self.channels.publish(letter, options.get("if_version") if options else None, turn)
        if address.kind is Kind.QUEUE:
            raise BadAddress(f"{letter.to} takes tasks, not messages; send to a peer, a channel or *")
        raise unknown(letter.to)

    def _ack(self, session: Session, record: Record, turn: Turn) -> None:
        self.post.ack(session, record[1], record[2], turn)

    def _nak(self, session: Session, record: Record, turn: Turn) -> None:
        _, lease, seq, code, text, delay_ms = record
        task, letter = session.tasks.get(seq), session.letters.get(seq)
        if task is not None and task.lease == lease:
            self.tasks.give_back(session, task, turn, delay_ms=delay_ms, text=text)
        elif letter is not None and letter.lease == lease:
            self.post.nak(session, letter, delay_ms=delay_ms, why=text or code, turn=turn)
        else:
            raise StaleLease(f"{seq} is not held under lease {lease}")

    def _credit(self, session: Session, record: Record, turn: Turn) -> None:
        _, messages, slots = record
        if session.may_receive:
            session.credit = min(session.credit + messages, CREDIT_MAX)
        if slots is not None:
            if slots and not session.is_worker:
                hello.begin_work(self, session, turn)
            self.tasks.offer(session, slots)
        self.post.push(session.peer, turn)

    def _progress(self, session: Session, record: Record, turn: Turn) -> None:
        _, seq, lease, data = record
        self.tasks.progress(session, seq, lease, data, turn)
        self.feed.progress(seq, data)

    def _result(self, session: Session, record: Record, turn: Turn) -> None:
        _, n, seq, lease, outcome, report, output = record
        self.tasks.result(session, n, seq, lease, outcome, report, output, turn)

    def _ping(self, session: Session, record: Record, turn: Turn) -> None:
        turn.send(session.link, [PONG, record[1]])

    def _call(self, session: Session, record: Record, turn: Turn) -> None:
        calls.answer(self, session, record[1], record[2], record[3], turn)

    def _request(self, session: Session, record: Record, turn: Turn) -> None:
        _, ref, to, wait_ms, body = record
        peer = self.state.roster.peers.get(to)
        if peer is None:
            raise unknown(to)
        if (_SEND, to) not in session.granted:
            self._check_send(session, to)
        self.requests.ask(session, ref, peer, wait_ms, body, turn)

    def _response(self, session: Session, record: Record, turn: Turn) -> None:
        self.requests.answer(session, record[1], record[2], record[3], turn)

    def _bye(self, session: Session, record: Record, turn: Turn) -> None:
        self.end(session, turn, is_orderly=True)

    def _again(self, session: Session, record: Record, turn: Turn) -> None:
        raise Malformed("HELLO may be said once on a connection")

    def _refuse(self, link: Link, verb: int, ref: int, error: PeerError, turn: Turn) -> None:
        self.state.counts["refused"] += 1
        turn.send(link, [ERROR, verb, ref, error.code, str(error)])
        if error.is_fatal:
            turn.kicks.append(link)


def _options(options: dict[str, Any], kind: int, to: str) -> tuple[int, bool, dict[str, Any] | None, Terms | None]:
    """Check the options of a SEND; return its rank, whether its sender watches, what is kept with the message, and the
    terms of a task that names some."""
    rank, is_watched = _NORMAL, False
    kept: dict[str, Any] = {}
    has_terms = False
    for name, value in options.items():
        if name == "priority":
            if type(value) is not str or value not in RANK:
                raise BadOption(f"priority must be one of {', '.join(RANK)}")
            rank = RANK[value]
            kept[name] = value
        elif name == "watch":
            if type(value) is not bool:
                raise BadOption("watch must be true or false")
            is_watched = value
        elif name in ENTRY_OPTIONS and kind == MESSAGE:
            if not to.startswith("channel/"):
                raise BadOption(f"option {name!r} is for channels, and {to[:80]} is none")
            check_option(name, value)
            if name != "if_version":
                kept[name] = value
        elif name == "sealed" and kind == MESSAGE:
            if type(value) is not bool:
                raise BadOption("sealed must be true or false")
            if value and parse_address(to).is_peer is False:
                raise BadOption(f"a message is sealed for the keys of one peer, and {to[:80]} is none")
            kept[name] = value
        elif name == "metadata" and kind == MESSAGE:
            _check_metadata(value)
            kept[name] = value
        elif name == "key":  # looked at before; the agent of a task is told, who may know it by another way
            if kind == TASK:
                kept[name] = value
        elif name == "reply_to" and kind == MESSAGE:
            kept[name] = value
        elif name == "expires_ms" and kind == MESSAGE:
            if type(value) is not int or not 0 < value <= _EXPIRES_MS_MAX:
                raise BadOption(f"expires_ms must be 1 to {_EXPIRES_MS_MAX} milliseconds")
            if to.startswith("channel/"):
                raise BadOption(f"an entry of {to[:80]} does not expire; leave that out")
            kept[name] = value
        elif kind == TASK and name in TERMS:
            kept[name] = value
            has_terms = True
        else:
            raise BadOption(f"option {str(name)[:40]!r} is not known")
    return rank, is_watched, kept or None, read_terms(options) if has_terms else None


def _check_metadata(value: Any) -> None:
    if type(value) is not dict:
        raise BadOption("metadata must be a map")
    try:
        size = len(pack(value))
    except (ValueError, RecursionError) as exc:
        raise BadOption("metadata is nested too deeply") from exc
    if size > METADATA_BYTES_MAX:
        raise TooLarge(f"metadata is {size} bytes; the limit is {METADATA_BYTES_MAX}")


_REF_AT: Final = {SEND: 1, RESULT: 1, CALL: 1, REQUEST: 1, RESPONSE: 1, PROGRESS: 1, NAK: 2}
assert LIST_ITEMS_MAX >= 2 * 1024  # an ACK of a whole window fits


def _ref(record: Record) -> int:
    """Return what an ERROR about `record` refers to."""
    place = _REF_AT.get(record[0])
    return int(record[place]) if place else 0
