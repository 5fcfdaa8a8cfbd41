"""A hub without sockets: the real decider and the real store, with links that are lists.

It takes turns the way `orchestra.hub.service` does. What peers say and what they are told passes through the wire's
encoding both ways, so a record that a client could not read fails the test that caused it.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestra import wire
from orchestra.address import parse_peer
from orchestra.errors import Malformed, TooLarge
from orchestra.hub import history
from orchestra.hub.board import Task
from orchestra.hub.decider import Decider
from orchestra.hub.hubstate import HubState, Numbers
from orchestra.hub.retention import Keep, Removal, Retention
from orchestra.hub.roster import Peer, Session
from orchestra.hub.store import Store
from orchestra.hub.tokens import Signer
from orchestra.hub.turn import Link, Turn, Writes
from orchestra.keys import make_key_pair
from orchestra.limits import LEASE_S
from orchestra.stage import ACKED
from orchestra.testing import FakeClock
from orchestra.token import TokenKey
from orchestra.wire import Record

_read = wire.Decoder(wire.FROM_PEER).decode
_read_told = wire.Decoder(wire.FROM_HUB).decode
_links = itertools.count(1)
NEXT_KEY = make_key_pair().public
_epochs = itertools.count(1)


def new_epoch() -> bytes:
    return next(_epochs).to_bytes(8, "big")


def hello(
    address: str = "",
    *,
    epoch: bytes = b"epoch--1",
    credit: int = 0,
    slots: int = 0,
    queues: tuple[Any, ...] = (),
    holding: tuple[Any, ...] = (),
    about: dict[Any, Any] | None = None,
    oldest: int = 1,
    newest: int = 1,
) -> Record:
    return [
        wire.HELLO,
        oldest,
        newest,
        address,
        epoch,
        credit,
        slots,
        list(queues),
        [list(each) if isinstance(each, tuple) else each for each in holding],
        about or {},
    ]


class FakePeer:
    """One connection. `told` is what the hub said that no assertion has looked at yet."""

    def __init__(self, hub: FakeHub, text: str, *, epoch: bytes | None = None) -> None:
        self.hub = hub
        self.text = text
        self.link: Link = f"link-{next(_links)}".encode()
        self.epoch = epoch or new_epoch()
        self.told: list[Record] = []
        self.n = 0
        self.ref = 0

    def hello(self, **fields: Any) -> list[Record]:
        """Say HELLO; return what came back."""
        return self.say(hello(self.text, epoch=self.epoch, **fields))

    def say(self, *records: Record) -> list[Record]:
        """Say `records` in one turn; return what this connection was told since the last look."""
        self.hub.say((self, records))
        return self.take()

    def take(self) -> list[Record]:
        told, self.told = self.told, []
        return told

    def took(self, verb: int) -> list[Record]:
        """Take all that was told; return those of one verb."""
        return [record for record in self.take() if record[0] == verb]

    def sending(self, to: str, body: bytes = b"hi", *, kind: int = wire.MESSAGE, **options: Any) -> Record:
        """Make the next SEND."""
        self.n += 1
        return [wire.SEND, self.n, to, kind, body, options or None]

    def send(self, to: str, body: bytes = b"hi", **options: Any) -> int:
        """Send a message; return its seq. Fails if the hub refuses it."""
        return self._stored(self.say(self.sending(to, body, **options)))

    def submit(self, to: str, body: bytes = b"job", **options: Any) -> int:
        """Submit a task; return its seq. Fails if the hub refuses it."""
        return self._stored(self.say(self.sending(to, body, kind=wire.TASK, **options)))

    def _stored(self, told: list[Record]) -> int:
        answer = next(record for record in told if record[0] in (wire.OK, wire.ERROR))
        self.told = [record for record in told if record is not answer] + self.told
        assert answer[0] == wire.OK, answer
        assert answer[1] == self.n
        return int(answer[2])

    def call(self, method: str, **params: Any) -> Any:
        """CALL; return the result, or the code of the error."""
        self.ref += 1
        told = self.say([wire.CALL, self.ref, method, params])
        answer = next(each for each in told if each[0] == wire.REPLY or each[:2] == [wire.ERROR, wire.CALL])
        self.told = [record for record in told if record is not answer] + self.told
        return answer[2] if answer[0] == wire.REPLY else answer[3]

    def ack(self, *deliveries: Record, stage: int = ACKED) -> list[Record]:
        return self.say([wire.ACK, stage, [number for each in deliveries for number in (each[3], each[1])]])

    def result(self, task: Record, outcome: str = "completed", output: bytes = b"done") -> list[Record]:
        self.n += 1
        return self.say([wire.RESULT, self.n, task[3], task[1], outcome, {}, output])

    def allow(self, messages: int = 0, slots: int | None = None) -> list[Record]:
        return self.say([wire.CREDIT, messages, slots])

    def vanish(self) -> None:
        """The connection breaks."""
        self.hub.lose(self)

    def again(self, **fields: Any) -> FakePeer:
        """The same client on a new connection."""
        twin = FakePeer(self.hub, self.text, epoch=self.epoch)
        twin.n, twin.ref = self.n, self.ref
        twin.told = twin.hello(**fields)
        return twin

    @property
    def session(self) -> Session | None:
        return self.hub.state.roster.sessions.get(self.link)

    @property
    def is_kicked(self) -> bool:
        return self.link in self.hub.kicked


class FakeHub:
    """A hub on a folder. `restart` is a crash: what was not committed is gone, and so is every connection."""

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.folder = folder
        self.chance = random.Random(7)
        self.signer = Signer(TokenKey(bytes(range(32))), (), self.chance.randbytes)
        self.kicked: list[Link] = []
        self._peers: dict[Link, FakePeer] = {}
        self._open()

    def _open(self) -> None:
        self.store = Store(self.folder / "hub.db", durability="fast")
        self.numbers = Numbers(self.store.count_boot(), self.chance.random)
        self.reload()
        self._end_turn(self.turn())

    def reload(self) -> None:
        """Forget what is in memory and read the database."""
        self.decider = Decider(
            self.store.load(now_ms=self.clock.now_ms),
            self.numbers,
            facts={"version": "test"},
            at_ms=self.clock.at_ms,
            archive=self.store,
            signer=self.signer,
            make_next_key=lambda: NEXT_KEY,
        )
        self._peers.clear()

    @property
    def state(self) -> HubState:
        return self.decider.state

    def peer(self, text: str) -> Peer:
        return self.state.roster.peers[text]

    def task(self, seq: int) -> Task:
        """An unfinished task."""
        return self.decider.tasks.board.tasks[seq]

    def close(self) -> None:
        self.store.close()

    def restart(self) -> None:
        self.close()
        self._open()

    def turn(self) -> Turn:
        return Turn(now_ms=self.clock.now_ms, at_ms=self.clock.at_ms)

    def enrol(self, *texts: str) -> None:
        """Make the hub know these peers."""
        turn = self.turn()
        for text in texts:
            if text not in self.state.roster.peers:
                self.state.add_peer(parse_peer(text), make_key_pair().public, now_ms=turn.now_ms)
        self._end_turn(turn)

    def knock(self, text: str) -> FakePeer:
        """Give an enrolled peer's connection that said nothing yet."""
        self.enrol(text)
        return FakePeer(self, text)

    def join(self, text: str, **fields: Any) -> FakePeer:
        """Give a connected peer; what WELCOME brought with it is in `told`."""
        peer = self.knock(text)
        told = peer.hello(**fields)
        assert told, "the hub said nothing to HELLO"
        assert told[0][0] == wire.WELCOME, told
        peer.told = told[1:]
        return peer

    def say(self, *said: tuple[FakePeer, tuple[Record, ...] | list[Record]]) -> None:
        """One turn in which several connections speak."""
        self.say_frames(*((peer, wire.pack(list(records))) for peer, records in said))

    def say_frames(self, *said: tuple[FakePeer, bytes]) -> None:
        turn = self.turn()
        for peer, frame in said:
            self._peers[peer.link] = peer
            try:
                records, faults = _read(frame)
            except (Malformed, TooLarge) as error:
                turn.send(peer.link, [wire.ERROR, 0, 0, error.code, str(error)])
                continue
            self.decider.receive(peer.link, peer.text, records, faults, turn)
        self._end_turn(turn)

    def lose(self, peer: FakePeer) -> None:
        turn = self.turn()
        self._peers.pop(peer.link, None)
        self.decider.lost(peer.link, turn)
        self._end_turn(turn)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and the hub notice."""
        self.clock.advance(seconds)
        turn = self.turn()
        self.decider.tick(turn)
        self._end_turn(turn)

    @contextmanager
    def deciding(self) -> Iterator[Turn]:
        """A turn for tests that call the decider themselves."""
        turn = self.turn()
        yield turn
        self._end_turn(turn)

    def slices(self, retention: Retention) -> Iterator[Removal]:
        """Remove what is over, slice by slice, until retention rests."""
        while (
            removal := retention.step(self.decider.in_use(), now_ms=self.clock.now_ms, at_ms=self.clock.at_ms)
        ) is not None:
            self.store.remove(removal)
            self.decider.removed(removal)
            retention.removed(removal)
            yield removal

    def retain(self, **keep: int) -> Counter[str]:
        """Remove what is over; return how many rows of what went."""
        retention = self.retention(**keep)
        for _ in self.slices(retention):
            pass
        return retention.total

    def retention(self, **keep: int) -> Retention:
        return Retention(Keep(**keep), self.store.rows, self.store.used_bytes)

    def _end_turn(self, turn: Turn) -> None:
        while True:
            self.decider.finish(turn)
            writes, self.state.writes = self.state.writes, Writes()
            self.store.commit(writes, now_ms=self.clock.now_ms)
            self.decider.feed.committed(writes)
            following = self.turn()
            for query in turn.queries:
                turn.send(query.link, history.answer(self.store, query))
            self.decider.feed.tell(turn)
            for link, records in turn.out.items():
                self._tell(link, records)
            for link in turn.kicks:
                self.kicked.append(link)
                self._peers.pop(link, None)
                self.decider.lost(link, following)
            for fetch in turn.fetches:
                self.decider.loaded(fetch, self.store.fetch(fetch), following)
            if not (following.out or following.fetches or following.kicks or self.state.writes.is_urgent()):
                return
            turn = following

    def _tell(self, link: Link, records: list[Record]) -> None:
        peer = self._peers.get(link)
        for frame in wire.encode(records):
            told, faults = _read_told(frame)
            assert not faults, f"the hub says what no client understands: {faults}"
            if peer is not None:
                peer.told += told

    # What is in the database.

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return list(self.store.rows(sql, *params))

    def column(self, sql: str, *params: Any) -> list[Any]:
        return [row[0] for row in self.rows(sql, *params)]

    def messages(self) -> int:
        return int(self.column("SELECT count(*) FROM message")[0])

    def owed(self, text: str) -> list[int]:
        """The seqs `text` is owed, by the database."""
        return self.column(
            "SELECT d.seq FROM delivery d JOIN address a ON a.id = d.recipient WHERE a.text = ? ORDER BY rank, seq",
            text,
        )

    def state_of(self, seq: int) -> str:
        return str(self.column("SELECT state FROM task WHERE seq = ?", seq)[0])

    def count(self, name: str) -> int:
        return self.state.counts[name]


def seqs(deliveries: list[Record]) -> list[int]:
    return [record[3] for record in deliveries if record[0] == wire.DELIVER]


def codes(told: list[Record]) -> list[str]:
    return [record[3] for record in told if record[0] == wire.ERROR]


def pass_time(hub: FakeHub, peer: FakePeer, seconds: float) -> None:
    """Let time pass in steps in which `peer` speaks, so that only what is tested lapses."""
    while seconds > 0:
        step = min(seconds, LEASE_S / 2)
        seconds = round(seconds - step, 6)
        hub.clock.advance(step)
        hub.say((peer, [[wire.PING, 0]]))
        hub.tick()
