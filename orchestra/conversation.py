"""The client's side of the wire, as a pure state machine. No socket, no clock, no thread.

What was sent and not answered is kept in order and said again after every reconnect, with the same number; so sending
is safe to repeat, and an answer that was lost costs nothing. What is delivered twice is handed on once.

The shell feeds `received` with the hub's records and gets back what happened, as small tuples: this runs once per
message.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from .errors import ConnectionLost, NoSession, OrchestraError, RateLimited, error_of
from .limits import CALLS_OPEN_MAX, LIST_ITEMS_MAX, SENDS_UNANSWERED_MAX, WATCHED_AT_ONCE_MAX
from .stage import ACKED
from .task import TaskState
from .version import WIRE_VERSION, WIRE_VERSION_OLDEST
from .wire import (
    ACK,
    BYE,
    CALL,
    CANCEL,
    CREDIT,
    DELIVER,
    ERROR,
    EVENT,
    HELLO,
    NAK,
    OK,
    PING,
    PONG,
    PROGRESS,
    REPLY,
    REQUEST,
    RESPONSE,
    RESULT,
    SEND,
    TASK,
    WELCOME,
    Record,
)


class Welcomed(NamedTuple):
    """The session is open. `lost` are the tasks this client held and does not hold any more."""

    address: str
    generation: int
    lost: list[int]


class Stored(NamedTuple):
    """The hub has send `n` on disk, as message or task `seq`."""

    n: int
    seq: int


class Refused(NamedTuple):
    """The hub refused something: a send (`what` is SEND or RESULT), a CALL or a REQUEST, by its number."""

    what: int
    ref: int
    error: OrchestraError


class Message(NamedTuple):
    """One message as it was delivered. `lease` 0: nothing to acknowledge."""

    seq: int
    sender: str
    to: str
    time_ms: int
    body: bytes
    attempt: int
    lease: int
    options: dict[str, Any]

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 shows as replacement characters."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_sealed(self) -> bool:
        """Whether it is sealed and could not be opened: `body` is what the hub has."""
        return bool(self.options.get("sealed", False)) and not self.sealed_by

    @property
    def sealed_by(self) -> str:
        """The fingerprint of the key that sealed it; "" where it came open, or could not be opened."""
        return str(self.options.get("sealed_by", ""))

    @property
    def reply_to(self) -> int | None:
        """The seq of the message that this one answers."""
        return self.options.get("reply_to")

    @property
    def thread(self) -> int:
        """The seq of the first message of its thread; its own, where it answers none."""
        thread: int = self.options.get("thread", self.seq)
        return thread

    @property
    def entry(self) -> str:
        """The name of an entry of a channel that overwrites the earlier one of its name; "" where it has none."""
        return str(self.options.get("entry", ""))

    @property
    def is_removed(self) -> bool:
        """Whether this entry says that its name was removed."""
        return bool(self.options.get("remove", False))


class Assigned(NamedTuple):
    """A task to work on."""

    seq: int
    sender: str
    to: str
    time_ms: int
    body: bytes
    attempt: int
    lease: int
    options: dict[str, Any]


class Progressed(NamedTuple):
    """Output of a task that this client watches."""

    seq: int
    attempt: int
    data: bytes


class Changed(NamedTuple):
    """A watched task is in another state: `facts` has state, attempt, agent, updated_ms."""

    seq: int
    facts: dict[str, Any]


class Receipted(NamedTuple):
    """A watched message is at `stage` for `recipient`; `dead` has a `reason`."""

    seq: int
    to: str
    recipient: str
    stage: str
    at_ms: int
    reason: str


class Finished(NamedTuple):
    """A watched task is over."""

    seq: int
    attempt: int
    state: str
    report: dict[str, Any]
    output: bytes


class AnswerGiven(NamedTuple):
    """The answer to question `number` of a task this client works on."""

    seq: int
    lease: int
    number: int
    text: str


class HubKeyAnnounced(NamedTuple):
    """The hub has this key (Z85) from `at_ms` on, in milliseconds since 1970."""

    public_key: str
    at_ms: int


class Canceled(NamedTuple):
    """Stop working on this task."""

    seq: int
    lease: int
    why: str


class Presence(NamedTuple):
    """Where a peer stands: online, away or offline, and since when (milliseconds since 1970; None: it never came).

    `away_text` is what it said when it went away, None while it is not; a peer may be away and offline.
    """

    address: str
    state: str
    since_ms: int | None
    away_text: str | None
    session_count: int
    hosts: tuple[str, ...]


class Replied(NamedTuple):
    """The answer to a CALL (a map) or a REQUEST (bytes)."""

    what: int
    ref: int
    result: Any


class Requested(NamedTuple):
    """Another peer asks something live."""

    number: int
    sender: str
    wait_ms: int
    body: bytes


class Answered(NamedTuple):
    """The hub answered the PING with this token."""

    token: int


class Missed(NamedTuple):
    """Retention removed entries of a channel, up to the seq `missed`, before this client got them."""

    channel: str
    missed: int


class Slowed(NamedTuple):
    """The hub has no time yet for a CALL that watches or follows; `watch_again` says it again, a little later."""


class Unfollowed(NamedTuple):
    """The hub refused to go on with a channel, maybe after a reconnect; there are no more entries."""

    channel: str
    error: OrchestraError


class Ended(NamedTuple):
    """The hub ended the session."""

    error: OrchestraError


_WATCHES = "task.watch", "message.watch", "presence.watch"

Happening = (
    Welcomed
    | Slowed
    | Stored
    | Refused
    | Message
    | Assigned
    | Progressed
    | Changed
    | Receipted
    | Finished
    | Canceled
    | AnswerGiven
    | HubKeyAnnounced
    | Presence
    | Replied
    | Requested
    | Answered
    | Missed
    | Unfollowed
    | Ended
)


class SeenSeqs:
    """Which deliveries were handed on: those up to a high-water mark, and those above it one by one.

    Within one priority the seqs of a recipient come in order, so the set stays small; its bound forgets the oldest.
    """

    SEQS_MAX = 16_384

    def __init__(self) -> None:
        self._seqs: OrderedDict[int, int] = OrderedDict()

    def add(self, seq: int) -> bool:
        """Remember `seq`; False if it was there already."""
        if seq in self._seqs:
            return False
        self._seqs[seq] = ACKED
        if len(self._seqs) > self.SEQS_MAX:
            self._seqs.popitem(last=False)
        return True

    def put(self, seq: int, stage: int) -> None:
        """Remember that the application is done with `seq`, and has it at `stage`."""
        if seq in self._seqs:
            self._seqs[seq] = stage

    def stage(self, seq: int) -> int:
        """Return what to say of `seq` when it comes again."""
        return self._seqs.get(seq, ACKED)


class Conversation:
    """One client's conversation with a hub, across any number of connections.

    `outbox` holds the records to send now; the shell takes them with `take` while `is_open`.
    """

    def __init__(
        self,
        epoch: bytes,
        *,
        address: str = "",
        credit: int = 0,
        slots: int = 0,
        queues: Iterable[str] = (),
        about: dict[str, str] | None = None,
    ) -> None:
        self.is_open = False
        self.slots = slots
        self.about = about or {}
        self._epoch = epoch
        self._address = address
        self.credit = credit
        self._queues = list(queues)
        self._outbox: list[Record] = []
        self._n = 0
        self._ref = 0
        self._sends: OrderedDict[int, Record] = OrderedDict()
        """Unanswered SENDs and RESULTs by number, in order."""
        self._calls: dict[int, Record] = {}
        """Unanswered CALLs by number, in order."""
        self._waiting_calls: deque[int] = deque()
        self._calls_said: set[int] = set()
        """Those of them that this connection has heard; the others wait, since the hub takes only so many at once."""
        self._slowed: list[int] = []
        """Those of them that were refused for their rate and wait for `watch_again`."""
        self._requests: dict[int, Record] = {}
        self._held: dict[int, int] = {}
        """Tasks this client works on: seq → lease."""
        self._leases: dict[int, int] = {}
        """Messages handed on and not acknowledged yet: seq → newest lease."""
        self._seen = SeenSeqs()
        self._watched: set[int] = set()
        self._watched_messages: set[int] = set()
        self._subscriptions: dict[str, int | None] = {}
        """Channel → the seq of the newest entry that was handed on; None until the hub said after which they come."""
        self._subscribing: dict[str, int] = {}
        """Channel → the CALL that asked for its entries, until the reply: what comes before was asked for earlier."""
        self._watches_presence = False
        self._resent: set[int] = set()
        self._greeted: tuple[int, int] | None = None
        """The credit and the slots that the last HELLO named."""

    # What the application does. Each adds to the outbox.

    @property
    def is_full(self) -> bool:
        """Whether so many sends are unanswered that the next should wait."""
        return len(self._sends) >= SENDS_UNANSWERED_MAX

    @property
    def unanswered(self) -> int:
        return len(self._sends)

    def send(self, to: str, body: bytes, kind: int, options: dict[str, Any] | None) -> int:
        """Send a message or a task; return its number, which `Stored` or `Refused` will name."""
        self._n += 1
        record = [SEND, self._n, to, kind, body, options]
        self._sends[self._n] = record
        self._outbox.append(record)
        return self._n

    def result(self, seq: int, lease: int, outcome: str, report: dict[str, Any], output: bytes) -> int:
        """Report the result of a held task; it is held until the hub has it on disk."""
        self._n += 1
        record = [RESULT, self._n, seq, lease, outcome, report, output]
        self._sends[self._n] = record
        self._outbox.append(record)
        return self._n

    def progress(self, seq: int, lease: int, data: bytes) -> None:
        """Pass output on; what is said while there is no hub is not said."""
        if self.is_open:
            self._outbox.append([PROGRESS, seq, lease, data])

    def give_back(self, seq: int, lease: int, code: str, text: str) -> None:
        """Let somebody else do a task."""
        if self._held.get(seq) != lease:
            return
        del self._held[seq]
        if self.is_open:
            self._outbox.append([NAK, lease, seq, code, text, 0])

    def ack(self, seqs: Iterable[int], stage: int = ACKED) -> None:
        """Say how far messages have come; each also makes room for one more."""
        pairs: list[int] = []
        for seq in seqs:
            lease = self._leases.pop(seq, None)
            if lease is not None:
                pairs += (seq, lease)
                if stage != ACKED:
                    self._seen.put(seq, stage)
        if self.is_open:
            for start in range(0, len(pairs), LIST_ITEMS_MAX):
                self._outbox.append([ACK, stage, pairs[start : start + LIST_ITEMS_MAX]])

    def allow(self, messages: int) -> None:
        """Be ready for so many more messages."""
        if self.is_open and messages:
            self._outbox.append([CREDIT, messages, None])

    def offer(self, slots: int) -> None:
        """Take so many tasks at once from now on."""
        self.slots = slots
        if self.is_open:
            self._outbox.append([CREDIT, 0, slots])

    def call(self, method: str, params: dict[str, Any]) -> int:
        """Ask the hub; said again after a reconnect, so methods are safe to repeat."""
        self._ref += 1
        self._calls[self._ref] = [CALL, self._ref, method, params]
        self._waiting_calls.append(self._ref)
        self._say_calls()
        return self._ref

    def request(self, to: str, wait_ms: int, body: bytes) -> int:
        """Ask another peer live; lost with the connection."""
        self._ref += 1
        record = [REQUEST, self._ref, to, wait_ms, body]
        self._requests[self._ref] = record
        self._outbox.append(record)
        return self._ref

    def respond(self, number: int, code: str, body: bytes) -> None:
        if self.is_open:
            self._outbox.append([RESPONSE, number, code, body])

    def watch(self, seqs: Iterable[int]) -> list[int]:
        """Follow tasks; the replies to the returned CALLs say where they are now, as `Changed` and `Finished`."""
        wanted = list(seqs)
        self._watched.update(wanted)
        starts = range(0, len(wanted), WATCHED_AT_ONCE_MAX)
        return [self.call("task.watch", {"seqs": wanted[start : start + WATCHED_AT_ONCE_MAX]}) for start in starts]

    def watches(self, seq: int) -> None:
        """The hub was asked with the SEND to tell of this task."""
        self._watched.add(seq)

    def subscribe(self, channel: str, after: int | None, *, cursor: str | None = None) -> int:
        """Follow a channel; after a reconnect it goes on after what was handed on last."""
        self._subscriptions[channel] = None if cursor else after
        chosen = {"after": after, "cursor": cursor}
        ref = self.call("subscribe", {"channel": channel, **{k: v for k, v in chosen.items() if v is not None}})
        self._subscribing[channel] = ref
        return ref

    def rewind(self, channel: str, after: int) -> None:
        """What was handed on after `after` was thrown away: after a reconnect it comes again."""
        if channel in self._subscriptions:
            self._subscriptions[channel] = after

    def seen(self, channel: str, seq: int, *, cursor: str | None) -> int:
        """Say that the entries up to `seq` were dealt with: more may come, and the cursor moves."""
        return self.call("channel.seen", {"channel": channel, "seq": seq, **({"cursor": cursor} if cursor else {})})

    def watch_messages(self, seqs: Iterable[int]) -> list[int]:
        """Follow messages; the replies to the returned CALLs say where they are now, as `Receipted`."""
        wanted = list(seqs)
        self._watched_messages.update(wanted)
        starts = range(0, len(wanted), WATCHED_AT_ONCE_MAX)
        return [self.call("message.watch", {"seqs": wanted[start : start + WATCHED_AT_ONCE_MAX]}) for start in starts]

    def unwatch_message(self, seq: int) -> None:
        """Follow a message no more."""
        if seq in self._watched_messages:
            self._watched_messages.discard(seq)
            if self.is_open:
                self.call("message.unwatch", {"seqs": [seq]})

    def unsubscribe(self, channel: str) -> None:
        asking = self._subscribing.get(channel)
        if asking in self._slowed:
            self.watch_again()  # or it would be said after this
        if self._forget_channel(channel) and (self.is_open or asking in self._calls):
            self.call("unsubscribe", {"channel": channel})

    def _forget_channel(self, channel: str) -> bool:
        """Take no more entries of a channel; return whether any were taken."""
        is_taken = channel in self._subscriptions
        self._subscribing.pop(channel, None)
        self._subscriptions.pop(channel, None)
        return is_taken

    def watch_presence(self) -> int:
        """Follow who comes and goes; the reply and what follows say where everybody stands, as `Presence`.

        After a reconnect everybody is told again.
        """
        self._watches_presence = True
        return self.call("presence.watch", {})

    def unwatch_presence(self) -> None:
        self._watches_presence = False
        if self.is_open:
            self.call("presence.unwatch", {})

    def ping(self, token: int) -> None:
        """Ask the hub for a sign of life; `Answered` brings the token back."""
        if self.is_open:
            self._outbox.append([PING, token])

    def bye(self) -> None:
        if self.is_open:
            self._outbox.append([BYE, "done", ""])

    # What the shell does.

    def hello(self) -> Record:
        """Return the first record of a connection."""
        holding = [[seq, lease] for seq, lease in self._held.items()]
        self._greeted = self._room, self.slots
        return [
            HELLO,
            WIRE_VERSION_OLDEST,
            WIRE_VERSION,
            self._address,
            self._epoch,
            self._room,
            self.slots,
            self._queues,
            holding,
            self.about,
        ]

    @property
    def _room(self) -> int:
        """How many more messages may come."""
        return max(0, self.credit - len(self._leases))

    def take(self) -> list[Record]:
        """Return what is to be sent now. Nothing before WELCOME."""
        if not self.is_open or not self._outbox:
            return []
        records, self._outbox = self._outbox, []
        return records

    def lost(self) -> list[Happening]:
        """The connection is gone. What was asked live fails; all else will be said again."""
        self.is_open = False
        self._outbox.clear()
        failed: list[Happening] = [
            Refused(REQUEST, ref, ConnectionLost("the hub went away before the answer came; ask again"))
            for ref in self._requests
        ]
        self._requests.clear()
        return failed

    def received(self, records: Iterable[Record]) -> list[Happening]:
        """Take in what the hub said; return what it means, in order."""
        found: list[Happening] = []
        for record in records:
            verb = record[0]
            if verb == DELIVER:
                self._delivered(record, found)
            elif verb == OK:
                self._stored(record, found)
            elif verb == PROGRESS:
                found.append(Progressed(record[1], record[2], record[3]))
            elif verb == RESULT:
                self._watched.discard(record[1])
                found.append(Finished(*record[1:6]))
            elif verb == EVENT:
                if record[1] == "task":
                    found.append(Changed(record[2].get("seq", 0), record[2]))
                elif record[1] == "channel":
                    found.append(Missed(record[2].get("channel", ""), record[2].get("missed", 0)))
                elif record[1] == "answer":
                    told = record[2]
                    found.append(AnswerGiven(told["seq"], told["lease"], told["number"], told["text"]))
                elif record[1] == "hub_key":
                    found.append(HubKeyAnnounced(record[2]["public_key"], record[2]["at_ms"]))
                elif record[1] == "presence":
                    found.append(_presence(record[2]))
                elif record[1] == "receipt":
                    told = record[2]
                    found.append(Receipted(*(told[name] for name in Receipted._fields)))
            elif verb == REPLY:
                self._replied(record, found)
            elif verb == RESPONSE:
                if self._requests.pop(record[1], None) is not None:
                    found.append(Replied(REQUEST, record[1], record[2]))
            elif verb == REQUEST:
                found.append(Requested(*record[1:5]))
            elif verb == CANCEL:
                found.append(Canceled(record[1], record[2], record[3]))
            elif verb == ERROR:
                self._refused(record, found)
            elif verb == WELCOME:
                self._welcomed(record, found)
            elif verb == PONG:
                found.append(Answered(record[1]))
            elif verb == BYE:
                found.append(Ended(error_of(record[1], record[2])))
        return found

    def _delivered(self, record: Record, found: list[Happening]) -> None:
        _, lease, attempt, seq, sender, to, kind, time_ms, options, body = record
        if kind == TASK:
            self._held[seq] = lease
            found.append(Assigned(seq, sender, to, time_ms, body, attempt, lease, options or {}))
            return
        if not lease:  # of a channel: in order, nothing to acknowledge
            if to in self._subscriptions and to not in self._subscribing:
                after = self._subscriptions[to]
                if after is None or seq > after:
                    self._subscriptions[to] = seq
                    found.append(Message(seq, sender, to, time_ms, body, attempt, 0, options or {}))
            return
        if self._seen.add(seq):
            self._leases[seq] = lease
            found.append(Message(seq, sender, to, time_ms, body, attempt, lease, options or {}))
        elif seq in self._leases:  # handed on, and the application still has it: its ACK will name this lease
            self._leases[seq] = lease
            self.allow(1)
        else:
            self._outbox.append([ACK, self._seen.stage(seq), [seq, lease]])
            self.allow(1)

    def _stored(self, record: Record, found: list[Happening]) -> None:
        _, first_n, first_seq, count = record
        sends = self._sends
        for i in range(count):
            sent = sends.pop(first_n + i, None)
            if sent is None:
                continue
            if sent[0] == RESULT:
                if self._held.get(sent[2]) == sent[3]:
                    del self._held[sent[2]]
            elif sent[5] and sent[5].get("watch"):
                # Under a key it may have been stored in an earlier life, and have moved on since.
                self._is_watched(
                    first_seq + i, sent[3], is_new=first_n + i not in self._resent and "key" not in sent[5]
                )
            found.append(Stored(first_n + i, first_seq + i))
        if self._resent and not sends:
            self._resent.clear()

    def _is_watched(self, seq: int, kind: int, *, is_new: bool) -> None:
        """What was asked to be watched is stored. Of what is not new, an earlier session may have been told: ask."""
        if kind == TASK:
            if not is_new:
                self.watch([seq])
        elif is_new:
            self._watched_messages.add(seq)
        else:
            self.watch_messages([seq])

    def _replied(self, record: Record, found: list[Happening]) -> None:
        _, ref, result = record
        asked = self._calls.pop(ref, None)
        if asked is None:
            return
        self._calls_said.discard(ref)
        self._say_calls()
        if asked[2] == "subscribe":  # from here on a reconnect goes on, also where "from now" was asked for
            channel = asked[3]["channel"]
            if self._subscribing.get(channel) == ref:
                del self._subscribing[channel]
            if self._subscriptions.get(channel, 0) is None:
                self._subscriptions[channel] = result.get("after")
            if result.get("missed"):
                found.append(Missed(channel, result["missed"]))
        elif asked[2] == "task.watch":
            self._told_outcomes(asked[3]["seqs"], result, found)
        elif asked[2] == "presence.watch" and self._watches_presence:
            found += map(_presence, result["peers"])
            if result["is_cut"]:  # one reply could not hold them all
                self.call("presence.watch", {"after": result["peers"][-1]["address"]})
        elif asked[2] == "message.watch":
            self._told_receipts(asked[3]["seqs"], result, found)
        found.append(Replied(CALL, ref, result))

    def _told_outcomes(self, asked: list[int], result: dict[str, Any], found: list[Happening]) -> None:
        seq = 0
        for facts in result["tasks"]:
            seq = facts["seq"]
            if TaskState(facts["state"]).is_over:
                self._watched.discard(seq)
                found.append(Finished(seq, facts["attempt"], facts["state"], facts["report"], facts["output"]))
            else:
                found.append(Changed(seq, facts))
        if result["is_cut"]:  # one reply could not hold them all
            self.watch(asked[asked.index(seq) + 1 :])

    def _told_receipts(self, asked: list[int], result: dict[str, Any], found: list[Happening]) -> None:
        seq = 0
        for message in result["messages"]:
            seq = message["seq"]
            for each in message["recipients"]:
                at_ms = each["receipts"][-1]["at_ms"] if each["receipts"] else 0
                found.append(Receipted(seq, message["to"], each["recipient"], each["stage"], at_ms, each["reason"]))
        if result["is_cut"]:
            self.watch_messages(asked[asked.index(seq) + 1 :])

    def _refused(self, record: Record, found: list[Happening]) -> None:
        _, verb, ref, code, text = record
        error = error_of(code, text)
        if error.is_fatal or verb == HELLO or code == NoSession.code:  # without a session all is said again in the next
            found.append(Ended(error))
            return
        if verb in (SEND, RESULT):
            sent = self._sends.pop(ref, None)
            if sent is None:
                return
            if sent[0] == RESULT and self._held.get(sent[2]) == sent[3]:
                del self._held[sent[2]]
        elif verb == CALL:
            asked = self._calls.pop(ref, None)
            if asked is None:
                return
            self._calls_said.discard(ref)
            self._say_calls()
            is_asking = asked[2] == "subscribe" and self._subscribing.get(asked[3]["channel"]) == ref
            # Often nobody waits for it who could.
            if code == RateLimited.code and (is_asking or asked[2] in _WATCHES):
                self._calls[ref] = asked
                self._slowed.append(ref)
                found.append(Slowed())
                return
            if is_asking:
                self._forget_channel(asked[3]["channel"])
                found.append(Unfollowed(asked[3]["channel"], error))
        elif verb == REQUEST:
            if self._requests.pop(ref, None) is None:
                return
        elif verb == PROGRESS and code == "stale_lease" and ref in self._held:
            found.append(Canceled(ref, self._held.pop(ref), "the hub gave the task to another agent"))
            return
        found.append(Refused(verb, ref, error))

    def _welcomed(self, record: Record, found: list[Happening]) -> None:
        _, _, address, _, generation, _, kept, _ = record
        self.is_open = True
        unsent = [each for each in self._outbox if each[0] not in (SEND, RESULT, CALL)]
        lost = [seq for seq in self._held if seq not in kept]
        for seq in lost:
            del self._held[seq]
        self._resent.update(self._sends)
        self._outbox = list(self._sends.values())
        self._calls_said.clear()
        self._waiting_calls = deque(self._calls)
        self._slowed.clear()
        self._say_calls()
        self._outbox += unsent
        self.watch(sorted(self._watched))
        self.watch_messages(sorted(self._watched_messages))
        for channel, after in self._subscriptions.items():
            if not any(each[2] == "subscribe" and each[3]["channel"] == channel for each in self._calls.values()):
                self.subscribe(channel, after)
        if self._watches_presence and not any(each[2:] == ["presence.watch", {}] for each in self._calls.values()):
            self.watch_presence()
        self._catch_up()
        found.append(Welcomed(address, generation, lost))

    def watch_again(self) -> None:
        """Say again what the hub had no time for."""
        self._waiting_calls += self._slowed
        self._slowed.clear()
        self._say_calls()

    def _say_calls(self) -> None:
        """Say the CALLs that wait, as many as may be open at once."""
        while self.is_open and self._waiting_calls and len(self._calls_said) < CALLS_OPEN_MAX:
            ref = self._waiting_calls.popleft()
            if ref in self._calls:
                self._calls_said.add(ref)
                self._outbox.append(self._calls[ref])

    def _catch_up(self) -> None:
        """Tell the hub what became possible since HELLO was said: until WELCOME there was nobody to tell."""
        if self._greeted is not None:
            credit, slots = self._greeted
            more = max(0, self._room - credit)
            if more or slots != self.slots:
                self._outbox.append([CREDIT, more, self.slots if slots != self.slots else None])
            self._greeted = None


def _presence(facts: dict[str, Any]) -> Presence:
    return Presence(
        facts["address"],
        facts["state"],
        facts["since_ms"],
        facts["away_text"],
        facts["session_count"],
        tuple(facts["hosts"]),
    )
