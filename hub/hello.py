"""HELLO: a connection whose key is known becomes a session. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestra.address import Kind, parse_address
from orchestra.errors import BadOption, HubFull, VersionMismatch, WrongName
from orchestra.limits import (
    BODY_BYTES_MAX,
    CREDIT_MAX,
    EPOCH_BYTES,
    HEARTBEAT_S,
    LEASE_S,
    OPTIONS_MAX,
    QUEUES_MAX,
    SENDS_UNANSWERED_MAX,
    SESSIONS_MAX,
    SESSIONS_PER_PEER_MAX,
    SLOTS_MAX,
)
from orchestra.version import WIRE_VERSION, WIRE_VERSION_OLDEST
from orchestra.wire import BYE, WELCOME, Record

from . import grants
from .roster import NEVER_MS, Peer, Session
from .tokens import Tokens
from .turn import Link, Turn

if TYPE_CHECKING:
    from .decider import Decider

TOLD_LIMITS = {
    "heartbeat_ms": int(HEARTBEAT_S * 1000),
    "lease_ms": int(LEASE_S * 1000),
    "body_bytes": BODY_BYTES_MAX,
    "sends_unanswered": SENDS_UNANSWERED_MAX,
}


def welcome(decider: Decider, link: Link, identity: str, record: Record, turn: Turn) -> Session:
    """Answer a HELLO with WELCOME and return the session it made.

    Raises:
        PeerError: as an ERROR to the peer; no session was made.
    """
    _, oldest, newest, claimed, epoch, credit, slots, queues, holding, about = record
    if oldest > WIRE_VERSION or newest < WIRE_VERSION_OLDEST:
        raise VersionMismatch(
            f"this hub speaks wire versions {WIRE_VERSION_OLDEST} to {WIRE_VERSION}, you {oldest} to {newest}; "
            f"upgrade the {'hub' if oldest > WIRE_VERSION else 'client'}"
        )
    peer_text = identity.partition(" ")[0]
    peer = decider.state.roster.peers.get(peer_text)
    if peer is None or claimed not in ("", peer_text):
        raise WrongName(f"this key or token belongs to {peer_text}; start with that name, or use the key of the other")
    if len(epoch) != EPOCH_BYTES:
        raise BadOption(f"epoch must be {EPOCH_BYTES} bytes")
    token = decider.tokens.admitted(identity, now_ms=turn.now_ms) if Tokens.is_token(identity) else None
    rights = grants.Rights(peer, token.grants if token is not None else None)
    may_receive = grants.allows(rights, grants.RECEIVE)
    served = _queues(queues)
    for address in (*([peer_text] if slots or served else ()), *served):
        grants.check(rights, grants.SERVE, address)
    told = _about(about)
    if len(decider.state.roster.sessions) >= SESSIONS_MAX:
        raise HubFull(f"{SESSIONS_MAX} sessions are open")
    # An agent that drains and comes back serves nothing, and is still the one that works.
    is_worker = bool(slots or served) or (peer.is_exclusive and peer.epoch == epoch)
    _make_room(decider, peer, epoch, is_worker=is_worker, turn=turn)
    if is_worker or not peer.is_exclusive:
        peer.live(epoch)
    peer.seen_ms = turn.now_ms
    decider.state.writes.peers[peer.id] = peer
    session = Session(
        link=link,
        identity=identity,
        number=next(decider.state.numbers.sessions),
        peer=peer,
        epoch=epoch,
        credit=min(credit, CREDIT_MAX) if may_receive else 0,
        slots=min(slots, SLOTS_MAX),
        queues=served,
        about=told,
        since_ms=turn.now_ms,
        heard_ms=turn.at_ms,
        generation=peer.generation,
        origin=decider.state.roster.origin_of(peer, epoch),
        is_worker=is_worker,
        token=token,
        may_receive=may_receive,
        ends_ms=token.ends_ms if token is not None else NEVER_MS,
    )
    decider.presence.joins(session)
    decider.state.roster.join(session)
    if is_worker:
        decider.tasks.take_up(session, _claims(holding))
    kept = list(session.tasks)
    turn.send(
        link,
        [
            WELCOME,
            min(newest, WIRE_VERSION),
            peer_text,
            session.number,
            peer.generation,
            turn.now_ms,
            kept,
            TOLD_LIMITS,
        ],
    )
    decider.succession.tell(link, turn)
    decider.inputs.remind(session, turn)
    decider.tasks.board.serve(session)
    decider.post.push(peer, turn)
    return session


def passing(decider: Decider, link: Link, identity: str, turn: Turn) -> Session:
    """Make a session for one question of somebody who came with a token; nobody else sees it.

    Raises:
        TokenRefused, TokenExpired: if that is over.
    """
    peer = decider.state.roster.peers[identity.partition(" ")[0]]
    token = decider.tokens.admitted(identity, now_ms=turn.now_ms)
    return Session(link, identity, 0, peer, b"", 0, 0, (), {}, turn.now_ms, turn.at_ms, token=token)


def begin_work(decider: Decider, session: Session, turn: Turn) -> None:
    """Make a visitor of an agent's name its worker: it offers slots now, and the older worker has to go.

    Raises:
        NotAllowed: if its kind does no tasks.
    """
    peer = session.peer
    grants.check(session.rights, grants.SERVE, peer.text)
    _replace_worker(decider, peer, turn)
    session.is_worker = True
    peer.live(session.epoch)
    session.generation = peer.generation
    decider.state.writes.peers[peer.id] = peer
    decider.tasks.take_up(session, {})


def _make_room(decider: Decider, peer: Peer, epoch: bytes, *, is_worker: bool, turn: Turn) -> None:
    """End the sessions this one replaces: an earlier connection of the same client, or an agent's earlier worker."""
    for old in list(peer.sessions):
        if old.epoch == epoch:
            turn.kicks.append(old.link)
            decider.end(old, turn)
    if is_worker:
        _replace_worker(decider, peer, turn)
    elif len(peer.sessions) >= SESSIONS_PER_PEER_MAX:
        raise HubFull(f"{peer.text} has {SESSIONS_PER_PEER_MAX} sessions open; close one first")


def _replace_worker(decider: Decider, peer: Peer, turn: Turn) -> None:
    for old in [session for session in peer.sessions if session.is_worker]:
        turn.send(old.link, [BYE, "replaced", f"another process works as {peer.text} now"])
        turn.kicks.append(old.link)
        decider.end(old, turn)


def _claims(holding: list[Any]) -> dict[int, int]:
    """Read `[[seq, lease], …]`; what is malformed claims nothing."""
    return {
        each[0]: each[1]
        for each in holding
        if type(each) is list and len(each) == 2 and type(each[0]) is int and type(each[1]) is int
    }


def _queues(queues: list[Any]) -> tuple[str, ...]:
    if len(queues) > QUEUES_MAX:
        raise HubFull(f"an agent may serve {QUEUES_MAX} queues; this one asks for {len(queues)}")
    for text in queues:
        if type(text) is not str or parse_address(text).kind is not Kind.QUEUE:
            shown = repr(text[:80]) if type(text) is str else f"a {type(text).__name__}"  # a deep list has no repr
            raise BadOption(f"{shown} is not a queue; write queue/NAME")
    return tuple(dict.fromkeys(queues))


def _about(about: dict[Any, Any]) -> dict[str, str]:
    if len(about) > OPTIONS_MAX or any(
        type(key) is not str or type(value) is not str or len(key) > 32 or len(value) > 256
        for key, value in about.items()
    ):
        raise BadOption(f"about must be at most {OPTIONS_MAX} short texts by name")
    return about
