"""What the rules of the hub share: who is known, what is owed to the database, and where numbers come from. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from orchestra.address import Address, parse_address
from orchestra.errors import BadAddress, HubFull, NotAllowed, PeerError, UnknownRecipient

from .filecounts import FileCounts
from .histogram import Durations
from .mailbox import Mailbox
from .roster import Origin, Peer, Roster, Session
from .turn import SentKey, Writes

if TYPE_CHECKING:
    from orchestra.task import TaskState

    from .board import Task

ADDRESSES_MAX: Final = 100_000  # peers, queues and channels that ever were; each costs a row and a few hundred bytes


class Numbers:
    """Where session and lease numbers come from: never the same twice, in no life of the hub.

    `boot` counts those lives; each may use 2^40 leases and 2^20 sessions. `chance` gives numbers from 0 to 1, and is
    the shell's: deciding itself knows no chance.
    """

    def __init__(self, boot: int, chance: Callable[[], float]) -> None:
        self.chance = chance
        self.sessions = itertools.count((boot << 20) + 1)
        self.leases = itertools.count((boot << 40) + 1)


class Archive(Protocol):
    """What the database knows of tasks and messages, as of the last commit; the store is one. Reads only.

    The one place where deciding looks into the database: what depends on a task that is over, or tries it again, or
    answers a message, must be answered at once, and those are not in memory.
    """

    def message(self, seq: int) -> dict[str, Any] | None: ...
    def heading(self, seq: int, reader: int) -> dict[str, Any] | None: ...
    def sent_under(self, peer: int, key: str) -> SentKey | None: ...

    def task(self, seq: int) -> tuple[Task, dict[str, Any], int | None] | None: ...
    def task_ends(self, seqs: Iterable[int]) -> dict[int, tuple[TaskState, str]]: ...


class EmptyArchive:
    """Knows of nothing."""

    def message(self, seq: int) -> None:
        return None

    def heading(self, seq: int, reader: int) -> None:
        return None

    def sent_under(self, peer: int, key: str) -> None:
        return None

    def task(self, seq: int) -> None:
        return None

    def task_ends(self, seqs: Iterable[int]) -> dict[int, tuple[TaskState, str]]:
        return {}


@dataclass(slots=True)
class HubState:
    """Attributes:
    writes: rows owed to the database; the shell replaces it with a new one for each commit.
    counts: what happened since the start, by name: acked, refused, redelivered, …
    files: how many tasks came to agents by file.
    keys: public key (Z85) → the address it proves; the ZAP handler looks here.
    archive: where tasks are looked up that are over.
    last_seq: the highest seq that was given out.
    unsaved: the origins whose last number is newer than the database's, by id.
    unseen: the peers that went and of whom the database does not say so yet, by id.
    """

    numbers: Numbers
    last_seq: int
    last_origin: int
    keys: dict[str, str]
    ids: dict[str, int]
    texts: dict[int, str]
    archive: Archive = field(default_factory=EmptyArchive)
    unsaved: dict[int, Origin] = field(default_factory=dict)
    unseen: dict[int, Peer] = field(default_factory=dict)
    writes: Writes = field(default_factory=Writes)
    roster: Roster = field(default_factory=Roster)
    counts: Counter[str] = field(default_factory=Counter)
    durations: Durations = field(default_factory=Durations)
    files: FileCounts = field(default_factory=FileCounts)

    def id_of(self, text: str) -> int:
        """Return the number of an address, made now if it is new."""
        number = self.ids.get(text)
        if number is None:
            if len(self.ids) >= ADDRESSES_MAX:
                raise HubFull(f"{ADDRESSES_MAX} addresses are known; use one that exists")
            number = len(self.ids) + 1  # none is ever forgotten, so they have no gaps
            self.ids[text], self.texts[number] = number, text
            self.writes.addresses.append((number, text))
        return number

    def add_peer(self, address: Address, public_key: str, *, now_ms: int) -> Peer:
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
            peer = Peer(number, address, text, 0, None, now_ms, Mailbox(number))
            self.roster.add_peer(peer)
            self.writes.peers[number] = peer
        if public_key not in self.keys:
            self.keys[public_key] = text
            self.writes.keys.append((public_key, peer.id, now_ms))
        return peer

    def origin_of(self, session: Session) -> Origin:
        """Return what is known of the sends of this life of the session's client; made at its first send."""
        if session.origin is None:
            session.origin = self.new_origin(session.peer, session.epoch)
        return session.origin

    def new_origin(self, peer: Peer, epoch: bytes) -> Origin:
        """Begin to number the sends of one life of a peer's client."""
        self.last_origin += 1
        origin = Origin(self.last_origin, peer.id, epoch, 0, self.last_seq, self.last_seq)
        self.roster.add_origin(origin)
        self.writes.origins[origin.id] = origin  # at once: its messages refer to it
        return origin

    def save(self, *, open_seq: int) -> None:
        """Owe the database who sent up to which number, and from where on tasks may be unfinished.

        That is not owed with every message: a starting hub brings it up to date from the log, so saving it
        now and then only bounds how much of the log that takes.
        """
        self.writes.origins.update(self.unsaved)
        self.writes.saved = (self.last_seq, open_seq)
        self.unsaved.clear()
        self.writes.peers.update(self.unseen)
        self.unseen.clear()


def unknown(to: str) -> PeerError:
    """Return the error for a recipient that is no known peer."""
    address = parse_address(to)
    if not address.is_peer:
        return BadAddress(f"{to} is not a peer; write agent/NAME, matrix/NAME or operator/NAME")
    return UnknownRecipient(f"no peer {to} is known here; `orchestra peers` lists those that are")
