"""Simulated processes of peers: the real client core, and around it what `orchestra.aio` and the worker do.

A process lives from `start` to `kill`; its address and its place (`slot`) outlive it. It connects by itself, speaks
every HEARTBEAT_S, takes a silent hub for lost, and an agent's process stops its work when its lease may have ended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestra import conversation as core
from orchestra import wire
from orchestra.conversation import Conversation
from orchestra.errors import OrchestraError
from orchestra.limits import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    CONNECT_S,
    HEARTBEAT_S,
    KILL_GRACE_S,
    LEASE_S,
    PROVE_S,
    WORK_LEASE_S,
)
from orchestra.stage import ACKED, DEAD, READ, STAGES

from .clock import PeerClock
from .network import Connection
from .tables import Tables
from .truth import Sent

if TYPE_CHECKING:
    from .world import World

_HEARTBEAT_MS, _LEASE_MS, _WORK_LEASE_MS = int(HEARTBEAT_S * 1000), int(LEASE_S * 1000), int(WORK_LEASE_S * 1000)
_PROVE_MS = int(PROVE_S * 1000)
_CONNECT_MS = int(CONNECT_S * 1000)
_BACKOFF_MS_MIN, _BACKOFF_MS_MAX = int(BACKOFF_S_MIN * 1000), int(BACKOFF_S_MAX * 1000)
_ABOUT = {"answers": "yes"}
_GRACE_MS = int(KILL_GRACE_S * 1000)
_WAY = (*STAGES, DEAD)  # news may come twice, and an answer may be older than an event
_decode = wire.Decoder(wire.FROM_HUB).decode


@dataclass(frozen=True, slots=True)
class Slot:
    """Where processes of one kind live, one at a time.

    Attributes:
        credit: messages it is ready for.
        slots: tasks at once, for agents.
    """

    number: int
    address: str
    credit: int
    slots: int = 0
    queues: tuple[str, ...] = ()
    drift_ppm: int = 0


@dataclass(slots=True, eq=False)
class Work:
    """A task's process on an agent's machine. It runs until `ends_ms` of its agent's clock."""

    seq: int
    lease: int
    attempt: int
    ends_ms: int
    is_stopping: bool = False
    is_wanted: bool = True
    is_canceled: bool = False

    def stop(self, at_ms: int) -> None:
        """It ends after what SIGTERM is given before SIGKILL, or before."""
        if not self.is_stopping:
            self.is_stopping = True
            self.ends_ms = min(self.ends_ms, at_ms + (self.seq * 797) % _GRACE_MS)


class Process:
    """One life of a peer's client."""

    def __init__(self, world: World, slot: Slot, *, epoch: bytes) -> None:
        self.world = world
        self.slot = slot
        self.epoch = epoch
        self.clock = PeerClock(world.clocks, drift_ppm=slot.drift_ppm, start_ms=slot.number * 1_000_003)
        self.talk = Conversation(
            epoch, address=slot.address, credit=slot.credit, slots=slot.slots, queues=slot.queues, about=_ABOUT
        )
        self.is_over = False
        self.connection: Connection | None = None
        self.unread: list[core.Message] = []
        """Handed to the application, and not acknowledged by it yet."""
        self.handed: Counter[int] = Counter()
        self.newest: dict[tuple[str, str, int], int] = {}
        """(sender, to, rank) → the highest seq that was handed over at its first attempt."""
        self.entries: dict[str, list[int]] = {}
        """Channel → seqs of the entries that were handed over."""
        self.after: dict[str, int] = {}
        """Channel → the seq after which the hub said that its entries come; -1: it has not said so yet."""
        self.cursors: dict[str, str] = {}
        self._unseen: dict[str, int] = {}
        self.works: list[Work] = []
        self.slots_most = slot.slots
        self.watched: set[int] = set()
        self.calls: dict[int, str] = {}
        self._submits: set[int] = set()
        self._subscribes: dict[int, str] = {}
        self._bodies: dict[int, bytes] = {}
        self._results: dict[int, tuple[int, int]] = {}
        self.receipts: dict[tuple[int, str], str] = {}
        """(seq, recipient) → the latest stage of a watched message that was told."""
        self.watched_messages: dict[int, str] = {}
        """Seq → where a message went that this process watches."""
        self._watching: set[int] = set()
        self.keys: dict[int, str] = {}
        """Number of a send → the key that makes it one with others."""
        self.asked: dict[int, bytes] = {}
        """Number of a live request → what it asked, until it is over."""
        self._checkpoints: dict[int, tuple[int, bytes]] = {}
        self._heard_ms = self._spoke_ms = self._opened_ms = self._greeted_ms = self._proved_ms = 0
        self._try_ms = 0
        self._backoff_ms = _BACKOFF_MS_MIN

    def __str__(self) -> str:
        return f"{self.slot.address} (life {int.from_bytes(self.epoch, 'big')})"

    # What the application does.

    def send(self, to: str, *, kind: int = wire.MESSAGE, options: dict[str, Any] | None = None) -> None:
        if self.talk.is_full:
            return
        body = b"%d" % (len(self.world.truth.sent) + 1)
        n = self.talk.send(to, body, kind, options)
        self._bodies[n] = body
        if options and "key" in options:
            self.keys[n] = options["key"]
        if (options or {}).get("watch"):
            if kind == wire.TASK:
                self._submits.add(n)
            else:
                self._watching.add(n)
        self.world.truth.sent[body] = Sent(self.slot.address, self.epoch, n, to, kind)
        self.flush()

    def acknowledge(self, count: int, stage: int = ACKED) -> None:
        """The application has read or dealt with the oldest `count` messages, or leaves them in the inbox."""
        done, self.unread = self.unread[:count], self.unread[count:]
        for message in done:
            if stage >= READ:
                self.world.truth.acked.add((self.slot.address, message.seq))
            self.talk.ack([message.seq], stage)
            self.talk.allow(1)
        self.flush()

    def read_unread(self, tables: Tables) -> None:
        """The person reads what was delivered here once and left in the inbox."""
        seqs = [
            seq for (address, seq), is_delivered in tables.owed.items() if address == self.slot.address and is_delivered
        ]
        if seqs:
            self.world.truth.acked.update((self.slot.address, seq) for seq in seqs)
            self.call("inbox.read", seqs=seqs)

    def offer(self, slots: int) -> None:
        """It takes so many tasks at once from now on."""
        self.slots_most = max(self.slots_most, slots)
        self.talk.offer(slots)
        self.flush()

    def ask(self, to: str, wait_ms: int) -> None:
        """The application asks another peer live."""
        self.world.counts["live requests"] += 1
        body = b"question %d" % self.world.counts["live requests"]
        self.asked[self.talk.request(to, wait_ms, body)] = body
        self.flush()

    def see(self) -> None:
        """The application has dealt with all the entries that it has."""
        for channel, seq in self._unseen.items():
            cursor = self.cursors.get(channel)
            if cursor:
                place = self.slot.address, channel
                self.world.truth.seen[place] = max(self.world.truth.seen.get(place, 0), seq)
            self.talk.seen(channel, seq, cursor=cursor)
        self._unseen.clear()
        self.flush()

    def call(self, method: str, **params: Any) -> None:
        self.calls[self.talk.call(method, params)] = method
        self.flush()

    def subscribe(self, channel: str, after: int | None, *, cursor: str = "") -> None:
        if channel not in self.after:
            self.entries[channel] = []
            self.after[channel] = -1
            self.cursors[channel] = cursor
            self._subscribes[self.talk.subscribe(channel, after, cursor=cursor or None)] = channel
            self.flush()

    # Its connection.

    @property
    def is_connected(self) -> bool:
        return self.connection is not None and self.talk.is_open

    def connect(self) -> None:
        """Open a connection and say HELLO, as soon as there is a hub that listens."""
        if not self.world.is_up:
            self._try_later()
            return
        self.connection = self.world.network.connect(self.slot.address)
        self._opened_ms = self._spoke_ms = self._greeted_ms = self.clock.at_ms
        self._say([self.talk.hello()])

    def receive(self, frame: bytes | None) -> None:
        """Take what arrived on the connection; None says that it is gone."""
        if frame is None:
            self.lose()
            return
        self._heard_ms = self.clock.at_ms
        records, faults = _decode(frame)
        assert not faults, f"the hub says what no client understands: {faults}"
        for happening in self.talk.received(records):
            self._happened(happening)
            if self.connection is None:
                return
        self.flush()

    def lose(self) -> None:
        """Let go of the connection."""
        if self.connection is not None:
            self.connection.cut()
            self.connection.down.clear()
            self.connection = None
            for refused in self.talk.lost():
                self._happened(refused)
            self._try_later()

    def flush(self) -> None:
        records = self.talk.take()
        if records:
            self._say(records)

    def beat(self) -> None:
        """Let time do its work."""
        at_ms = self.clock.at_ms
        self._work(at_ms)
        if self.is_over:
            return
        if self.connection is None:
            if at_ms >= self._try_ms:
                self.connect()
        elif not self.talk.is_open:
            if at_ms - self._opened_ms > _CONNECT_MS:
                self.lose()
        elif at_ms - self._heard_ms > _LEASE_MS:
            self.lose()
        elif at_ms - self._spoke_ms >= (_PROVE_MS if self.works else _HEARTBEAT_MS):
            self._spoke_ms = at_ms
            self.talk.ping(at_ms)
            self.flush()

    def kill(self, *, lost_up: int = 0) -> None:
        """The process dies, and with it what it ran: the warden sees to that."""
        self.is_over = True
        self.works.clear()
        if self.connection is not None:
            self.connection.cut(lost_up=lost_up)
            self.connection.down.clear()
            self.connection = None

    def _say(self, records: list[wire.Record]) -> None:
        if self.connection is not None:
            for record in records:
                self.world.note_record(f"{self} on connection {self.connection.link}", record)
            for frame in wire.encode(records):
                self.connection.to_hub(frame)

    def _try_later(self) -> None:
        self._try_ms = self.clock.at_ms + self._backoff_ms
        self._backoff_ms = min(2 * self._backoff_ms, _BACKOFF_MS_MAX)

    # What comes from the hub.

    def _happened(self, happening: core.Happening) -> None:
        match happening:
            case core.Answered():
                self._proved_ms = max(self._proved_ms, happening.token)
            case core.Welcomed():
                self._proved_ms = self._greeted_ms
                self._backoff_ms = _BACKOFF_MS_MIN
                for work in self.works:
                    if work.seq in happening.lost:
                        work.is_wanted = False
                        work.stop(self.clock.at_ms)
            case core.Stored():
                self._stored(happening.n, happening.seq)
            case core.Message():
                self._handed(happening)
            case core.Assigned():
                self._begin(happening)
            case core.Canceled():
                for work in self.works:
                    if work.seq == happening.seq and work.lease == happening.lease:
                        work.is_canceled = True
                        work.stop(self.clock.at_ms)
            case core.Receipted():
                place = happening.seq, happening.recipient
                self.receipts[place] = max(self.receipts.get(place, "stored"), happening.stage, key=_WAY.index)
                self.world.receipt_told(self, happening)
            case core.AnswerGiven():
                self.world.answer_given(self, happening)
            case core.Finished():
                self.world.watcher_told(self, happening.seq, happening.state)
            case core.Replied(what=wire.REQUEST):
                self.world.answered(self, self.asked.pop(happening.ref, None), happening.result)
            case core.Replied():
                self._replied(happening.ref, happening.result)
            case core.Requested():
                self._requested(happening)
            case core.Refused():
                self._refused(happening.what, happening.ref, happening.error)
            case core.Ended():
                self._ended(happening.error)

    def _stored(self, n: int, seq: int) -> None:
        if n in self._results:
            task, lease = self._results.pop(n)
            self.world.result_stored(self, n, task, lease)
            return
        if n in self._submits:
            self.watched.add(seq)
            self.talk.watches(seq)
        self.world.send_stored(self, n, seq, self._bodies.pop(n))
        if n in self._watching:
            self._watching.discard(n)
            self.watched_messages[seq] = self.world.tables.all[seq].to  # under a key, perhaps another than it said

    def _handed(self, message: core.Message) -> None:
        if message.lease:
            self.handed[message.seq] += 1
            self.unread.append(message)
            self.world.message_handed(self, message)
        else:
            self.entries[message.to].append(message.seq)
            self._unseen[message.to] = message.seq
            self.world.entry_handed(self, message)

    def _replied(self, ref: int, result: Any) -> None:
        channel = self._subscribes.pop(ref, None)
        if channel is not None:
            self.after[channel] = result["after"]
            self.world.subscribed(self, channel)
        method = self.calls.pop(ref, "")
        if ref in self._checkpoints:
            seq, data = self._checkpoints.pop(ref)
            self.world.truth.checkpoints[seq] = data
        if method == "inbox":
            seqs = [each["seq"] for each in result["messages"]]
            if seqs:
                self.world.truth.acked.update((self.slot.address, seq) for seq in seqs)
                self.call("inbox.read", seqs=seqs)

    def _refused(self, what: int, ref: int, error: OrchestraError) -> None:
        self.world.counts[f"refused: {error.code}"] += 1
        if what == wire.SEND:
            self._bodies.pop(ref, None)
        elif what == wire.RESULT:
            self._results.pop(ref, None)
        elif what == wire.REQUEST:
            self.asked.pop(ref)
        elif what == wire.CALL:
            self.calls.pop(ref, None)

    def _requested(self, requested: core.Requested) -> None:
        """Answer at once, refuse, or say nothing at all."""
        match int(requested.body.split()[1]) % 4:
            case 0:
                self.talk.respond(requested.number, "not_found", b"no answer")
            case 1 | 2:
                self.talk.respond(requested.number, "", b"answer to " + requested.body)

    def _ended(self, error: OrchestraError) -> None:
        if error.is_fatal:  # a newer process has the name
            for work in self.works:
                work.is_wanted = False
                work.stop(self.clock.at_ms)
            self.is_over = True
            if self.connection is not None:
                self.connection.cut()
                self.connection.down.clear()
                self.connection = None
        else:
            self.lose()

    # An agent's work.

    def _begin(self, assigned: core.Assigned) -> None:
        at_ms = self.clock.at_ms
        if at_ms - self._proved_ms >= _WORK_LEASE_MS:  # it was long under way: another agent may have it by now
            self.talk.give_back(assigned.seq, assigned.lease, "given_back", "its lease lapsed")
            return
        for earlier in self.works:
            if earlier.seq == assigned.seq:  # an attempt the hub has given up, still ending here
                earlier.is_wanted = False
                earlier.stop(at_ms)
        duration_ms = (assigned.seq * 7919 + assigned.attempt * 104_729) % self.world.plan.work_ms_max
        self.works.append(Work(assigned.seq, assigned.lease, assigned.attempt, at_ms + duration_ms))
        self.world.counts["assigned"] += 1
        self.world.task_begun(self, assigned)
        if duration_ms % 3 == 0:
            data = b"%d of %d" % (assigned.attempt, assigned.seq)
            ref = self.talk.call("task.checkpoint", {"seq": assigned.seq, "lease": assigned.lease, "data": data})
            self._checkpoints[ref] = (assigned.seq, data)
        if duration_ms % 4 == 0:
            asked = {"seq": assigned.seq, "lease": assigned.lease, "number": 1, "question": "which one?"}
            self.talk.call("task.ask", asked)

    def _work(self, at_ms: int) -> None:
        if at_ms - self._proved_ms >= _WORK_LEASE_MS:  # soon another agent may be given it
            for work in self.works:
                if not work.is_stopping:
                    work.is_wanted = False
                    work.stop(at_ms)
        for work in [each for each in self.works if at_ms >= each.ends_ms]:
            self.works.remove(work)
            if not self.is_over:
                self._report(work)

    def _report(self, work: Work) -> None:
        is_given_back = not work.is_wanted or (not work.is_stopping and (work.seq + work.attempt) % 11 == 0)
        if is_given_back:
            self.talk.give_back(work.seq, work.lease, "given_back", "the agent stopped it")
        else:
            is_failed = (work.seq + work.attempt) % 3 == 0
            outcome = "canceled" if work.is_canceled else "failed" if is_failed else "completed"
            n = self.talk.result(work.seq, work.lease, outcome, {"exit_code": 0}, b"done")
            self._results[n] = (work.seq, work.lease)
        self.flush()
