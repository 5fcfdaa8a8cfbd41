"""Peers and their sessions: who is known, who is connected, and which life of a name is the current one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestra.address import Address, Kind

from .bucket import Bucket
from .grants import Rights
from .mailbox import Letter, Mailbox
from .turn import Link

if TYPE_CHECKING:
    from orchestra.token import Claims

    from .board import Task
    from .channel import Follower

NEVER_MS: Final = 2**63 - 1


@dataclass(slots=True, eq=False)
class Origin:
    """One life of one client, as far as its sends go: the highest number it used, and the seqs they lie between."""

    id: int
    peer_id: int
    epoch: bytes
    last_n: int
    first_seq: int
    last_seq: int


@dataclass(slots=True, eq=False)
class Session:
    """One live connection of a peer. `heard_ms` and `since_ms` are milliseconds of the hub's clock."""

    link: Link
    identity: str
    """What its connection was stamped with: the peer's address, and the key or the token that proved it."""
    number: int
    peer: Peer
    epoch: bytes
    credit: int
    slots: int
    queues: tuple[str, ...]
    about: dict[str, str]
    since_ms: int
    heard_ms: int
    generation: int = 0
    """Which life of its peer's name it belongs to."""
    origin: Origin | None = None
    letters: dict[int, Letter] = field(default_factory=dict)
    """Messages it was sent and did not acknowledge, by seq."""
    tasks: dict[int, Task] = field(default_factory=dict)
    """Tasks it holds, by seq."""
    subscriptions: dict[int, Follower] = field(default_factory=dict)
    """Its places in the channels it follows, by channel id."""
    watched: set[int] = field(default_factory=set)
    token: Claims | None = None
    """What its token says, where it came with one instead of a key."""
    may_receive: bool = True
    """Whether messages and live requests are handed to it."""
    ends_ms: int = NEVER_MS
    """When it is over, in milliseconds since 1970."""
    granted: set[tuple[str, str]] = field(default_factory=set)
    """(action, address): the grants that were checked."""
    watched_messages: set[int] = field(default_factory=set)
    calls: tuple[int, int] = (0, 0)
    """(the turn's time, CALLs taken in that turn)."""
    is_worker: bool = False
    """Whether it does tasks: it has offered slots or serves queues. Of an agent's sessions one does at most."""

    @property
    def rights(self) -> Rights:
        return Rights(self.peer, self.token.grants if self.token is not None else None)

    @property
    def free_slots(self) -> int:
        return self.slots - len(self.tasks)


@dataclass(slots=True, eq=False)
class Peer:
    """A name with a key. `sessions` is in the order they came.

    `epoch` is that of the newest life, which `generation` counts; an agent's lives are those of its workers.
    """

    id: int
    address: Address
    text: str
    generation: int
    epoch: bytes | None
    seen_ms: int
    mailbox: Mailbox
    grants: tuple[str, ...] | None = None
    """What it may do, where that is not what its kind may."""
    since_ms: int = 0
    """Since when it is connected or not; 0: it never came."""
    sends: Bucket = field(default_factory=Bucket)
    calls: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    """What it may send, ask and make now."""
    away_ms: int | None = None
    away_text: str | None = None
    """What was said by hand, and when; both None for who is not away."""
    sessions: list[Session] = field(default_factory=list)

    @property
    def is_exclusive(self) -> bool:
        """Whether a newer process that works takes the name from an older one."""
        return self.address.kind is Kind.AGENT

    def live(self, epoch: bytes) -> None:
        """Count a new life of this name, unless it is the one that is known."""
        if self.epoch != epoch:
            self.generation += 1
            self.epoch = epoch


class Roster:
    """All peers and all sessions."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}
        self.sessions: dict[Link, Session] = {}
        self._origins: dict[tuple[int, bytes], Origin] = {}

    def add_peer(self, peer: Peer) -> None:
        self.peers[peer.text] = peer

    def add_origin(self, origin: Origin) -> None:
        self._origins[origin.peer_id, origin.epoch] = origin

    def forget_origin(self, peer_id: int, epoch: bytes) -> None:
        self._origins.pop((peer_id, epoch), None)

    def origin_of(self, peer: Peer, epoch: bytes) -> Origin | None:
        return self._origins.get((peer.id, epoch))

    def join(self, session: Session) -> None:
        self.sessions[session.link] = session
        session.peer.sessions.append(session)

    def leave(self, session: Session) -> None:
        self.sessions.pop(session.link, None)
        if session in session.peer.sessions:
            session.peer.sessions.remove(session)

    def silent(self, *, before_ms: int) -> list[Session]:
        """Return the sessions that have not spoken since `before_ms`."""
        return [session for session in self.sessions.values() if session.heard_ms < before_ms]

    def matrices(self) -> Iterator[Peer]:
        """Give every matrix the hub knows, connected or not."""
        return (peer for peer in self.peers.values() if peer.address.kind is Kind.MATRIX)
