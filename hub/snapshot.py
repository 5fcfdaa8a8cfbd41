"""What the hub knows when it starts: everything the decider keeps in memory, as the database holds it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from orchestra.audit import Entry

from .board import Task
from .channel import Channel
from .enrolment import Invite
from .roster import Origin
from .tokens import Token


class KnownPeer(NamedTuple):
    """What is kept of a peer; times are milliseconds since 1970, `since_ms` 0 of one that never came."""

    generation: int
    epoch: bytes | None
    seen_ms: int
    since_ms: int
    away_ms: int | None
    away_text: str | None
    grants: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a hub between two lives.

    Attributes:
        last_seq: the highest seq that was given out.
        addresses: address id → text.
        peers: address id → what is kept of a peer.
        origins: those whose clients may still come back; `last_origin` is the highest id there ever was.
        unread: address id → (how many messages it has not read, how many of those were delivered).
        tasks: the unfinished ones.
        cursors: (peer, channel, name) → seq.
    """

    last_seq: int = 0
    addresses: dict[int, str] = field(default_factory=dict)
    peers: dict[int, KnownPeer] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)
    unsaved: list[Origin] = field(default_factory=list)
    """Those of them that sent something since they were saved, as the log tells."""
    last_origin: int = 0
    unread: dict[int, tuple[int, int]] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    cursors: dict[tuple[int, int, str], int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """Public key (Z85) → the address it proves."""
    key_ends: dict[str, int] = field(default_factory=dict)
    """Public key → until when it is let in: it was replaced."""
    invites: list[Invite] = field(default_factory=list)
    next_key: tuple[str, int] = ("", 0)
    """The hub's next key, and when it takes over in ms since 1970; "" where none was announced."""
    hub_uid: str = ""
    """What tokens call this hub; it stays when its keys change."""
    tokens: list[Token] = field(default_factory=list)
    """Those that are not over."""
    token_floors: dict[int, int] = field(default_factory=dict)
    """Address id → its tokens from before this moment count for nothing."""
    audit: Entry | None = None
    """The newest entry of the audit log."""
