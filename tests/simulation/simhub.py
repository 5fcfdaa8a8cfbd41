"""The hub's shell in the simulation: takes turns as `orchestra.hub.service` does, and can die between any two deeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestra import wire
from orchestra.address import parse_peer
from orchestra.errors import Malformed, StorageFault, TooLarge
from orchestra.hub import history
from orchestra.hub.decider import Decider
from orchestra.hub.hubstate import HubState, Numbers
from orchestra.hub.retention import Keep, Removal, Retention
from orchestra.hub.store import Store
from orchestra.hub.tokens import Signer
from orchestra.hub.turn import Turn, Writes
from orchestra.limits import ACKS_HELD_MAX, ACKS_HELD_S
from orchestra.token import TokenKey
from orchestra.wire import Record

from .clock import Clocks
from .network import Connection, Frame, Network

_KICK_AFTER_MS = 200
_ACKS_HELD_MS = int(ACKS_HELD_S * 1000)
_KEEP = Keep(days=1, dead_days=1)
_SLICES_MAX = 100
_SIGNER = Signer(TokenKey(bytes(32)), (), bytes)
_decode = wire.Decoder(wire.FROM_PEER).decode


class Crash(Exception):
    """The hub's process dies here."""


class SimHub:
    """One life of the hub on a database file.

    Attributes:
        crash_in: at which point from now on it dies; 0 is never. Every point is a place between two deeds.
        fail_in: which commit from now on the database refuses; 0 is none.
        deaf: connections that let their queue fill, so that the hub can't send to them.
    """

    def __init__(
        self,
        path: Path,
        clocks: Clocks,
        network: Network,
        *,
        chance: Callable[[], float],
        committed: Callable[[], None],
        tells: Callable[[Connection, Record], None],
        removes: Callable[[Removal], None],
    ) -> None:
        self.crash_in = 0
        self.fail_in = 0
        self.deaf: set[int] = set()
        self.points = 0
        self.commits = 0
        self.refused_commits = 0
        self._clocks = clocks
        self._network = network
        self._committed = committed
        self._tells = tells
        self._removes = removes
        self._acks_due_ms: int | None = None
        self._kicks: list[tuple[int, int]] = []
        self.store = Store(path, durability="fast")
        self._numbers = Numbers(self.store.count_boot(), chance)
        self._load()

    @property
    def state(self) -> HubState:
        return self.decider.state

    def close(self) -> None:
        self.store.close()

    def enrol(self, addresses: list[str]) -> None:
        turn = self._turn()
        for number, text in enumerate(addresses):
            self.state.add_peer(parse_peer(text), f"{number:040}", now_ms=turn.now_ms)
        self._end_turn(turn)

    def take(self, arrived: list[tuple[Connection, Frame]]) -> None:
        """One turn over what has arrived.

        Raises:
            Crash: where the step asked for it.
        """
        self._point()
        turn = self._turn()
        for connection, frame in arrived:
            if frame is None:
                connection.is_known_lost = True
                self.decider.lost(connection.link, turn)
                continue
            try:
                records, faults = _decode(frame)
            except (Malformed, TooLarge) as error:
                turn.send(connection.link, [wire.ERROR, 0, 0, error.code, str(error)])
                continue
            self.decider.receive(connection.link, connection.address, records, faults, turn)
        self._end_turn(turn)

    def tick(self) -> None:
        """Let the time do its work: kicks and held acknowledgements that are due, and the decider's own."""
        self._point()
        at_ms = self._clocks.at_ms
        due = [link for due_ms, link in self._kicks if due_ms <= at_ms]
        self._kicks = [each for each in self._kicks if each[0] > at_ms]
        for link in due:
            self._kick(link)
        if self._acks_due_ms is not None and at_ms >= self._acks_due_ms:
            self._commit_held()
        turn = self._turn()
        self.decider.tick(turn)
        self._end_turn(turn)

    def clean(self) -> None:
        """Remove what was over for long enough, slice by slice."""
        retention = Retention(_KEEP, self.store.rows, self.store.used_bytes)
        for _ in range(_SLICES_MAX):
            self._commit_held()
            removal = retention.step(self.decider.in_use(), now_ms=self._clocks.now_ms, at_ms=self._clocks.at_ms)
            if removal is None:
                return
            if removal.counts():
                self._removes(removal)
                self.store.remove(removal)
                self.decider.removed(removal)
                self._committed()
            retention.removed(removal)
            self._point()

    def _commit_held(self) -> None:
        self._acks_due_ms = None
        try:
            self._commit()
        except StorageFault as fault:
            self._start_over(fault)

    def _load(self) -> None:
        snapshot = self.store.load(now_ms=self._clocks.now_ms)
        self.decider = Decider(
            snapshot,
            self._numbers,
            facts={"version": "simulated"},
            at_ms=self._clocks.at_ms,
            archive=self.store,
            signer=_SIGNER,
            make_next_key=str,
        )

    def _turn(self) -> Turn:
        return Turn(now_ms=self._clocks.now_ms, at_ms=self._clocks.at_ms)

    def _end_turn(self, turn: Turn) -> None:
        try:
            self._settle(turn)
        except StorageFault as fault:
            self._start_over(fault)

    def _settle(self, turn: Turn) -> None:
        while True:
            decider = self.decider
            decider.finish(turn)
            self._point()  # decided, not committed
            writes = decider.state.writes
            held = writes.held
            if writes.is_urgent() or turn.queries or turn.fetches or held > ACKS_HELD_MAX:
                self._commit()
                self._point()  # committed, and nobody was told
            elif held and self._acks_due_ms is None:
                self._acks_due_ms = self._clocks.at_ms + _ACKS_HELD_MS
            for query in turn.queries:
                turn.send(query.link, history.answer(self.store, query))
            gone = self._deliver(turn)
            if not (gone or turn.fetches):
                return
            following = self._turn()
            for link in gone:
                self._kick(link)
                decider.lost(link, following)
            for fetch in turn.fetches:
                decider.loaded(fetch, self.store.fetch(fetch), following)
            turn = following

    def _deliver(self, turn: Turn) -> list[Any]:
        gone = []
        for link in reversed(turn.out):
            if not self._send(link, turn.out[link]):
                gone.append(link)
            self._point()  # some were told, others not
        for link in turn.kicks:
            self._kicks.append((self._clocks.at_ms + _KICK_AFTER_MS, self._known(link)))
        return gone

    def _send(self, link: Any, records: list[Record]) -> bool:
        connection = self._network.connections.get(link)
        if connection is None or connection.is_known_lost or link in self.deaf:
            return False
        for record in records:
            self._tells(connection, record)
        for frame in wire.encode(records):
            connection.to_peer(frame)
        return True

    def _kick(self, link: int) -> None:
        connection = self._network.connections.get(link)
        if connection is not None:
            connection.cut(tells_peer=True, tells_hub=True)

    def _commit(self) -> None:
        writes, self.state.writes = self.state.writes, Writes()
        if self.fail_in:
            self.fail_in -= 1
            if not self.fail_in:
                self.refused_commits += 1
                raise StorageFault("the disk is full")
        self.store.commit(writes, now_ms=self._clocks.now_ms)
        self.commits += 1
        self._committed()

    def _start_over(self, fault: StorageFault) -> None:
        links = list(self.state.roster.sessions)
        self._acks_due_ms = None
        self._load()
        for link in links:
            self._send(link, [[wire.BYE, fault.code, str(fault)]])
            self._kicks.append((self._clocks.at_ms + _KICK_AFTER_MS, self._known(link)))

    def _point(self) -> None:
        """A place where the process may die."""
        self.points += 1
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                raise Crash

    @staticmethod
    def _known(link: Any) -> int:
        assert isinstance(link, int)
        return link
