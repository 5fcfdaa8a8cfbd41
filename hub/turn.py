"""One turn of the hub's loop: what deciding asks the shell to write and to send. Pure.

The decider fills a `Writes` (rows for the one transaction) and a `Turn` (records owed to sessions and questions to the
database). Both are lists of tuples, because they are filled once per message; their order is the order of the columns
in `store.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestra.wire import OK, Record

if TYPE_CHECKING:
    from orchestra.audit import Entry

    from .enrolment import Invite
    from .roster import Origin, Peer
    from .tokens import Token

Link = Hashable
"""One connection, as its transport names it: opaque here."""


class TaskRow(NamedTuple):
    """The columns of `task`; times are milliseconds since 1970."""

    seq: int
    recipient: int
    rank: int
    state: str
    attempt: int
    losses: int
    lease: int
    holder: int | None
    generation: int
    session: int
    began_ms: int
    cancel_why: str | None
    updated_ms: int
    extras: bytes | None
    result_n: int | None
    report: bytes | None
    output: bytes | None


class AttemptRow(NamedTuple):
    """The columns of `attempt`: one that did not end the task with its result."""

    task: int
    attempt: int
    holder: int | None
    generation: int
    session: int
    lease: int
    began_ms: int
    ended_ms: int
    outcome: str
    text: str
    result_n: int | None
    late_ms: int | None
    late_outcome: str | None


class SentKey(NamedTuple):
    """What was sent under an idempotency key. `at_ms` is milliseconds since 1970."""

    seq: int
    at_ms: int
    kind: int
    to: str


@dataclass(slots=True)
class Writes:
    """Rows owed to the database."""

    addresses: list[tuple[int, str]] = field(default_factory=list)
    peers: dict[int, Peer] = field(default_factory=dict)
    """By address id. Written over what is there, as they are at the commit; so are the origins."""
    keys: list[tuple[str, int, int]] = field(default_factory=list)
    """(public key, peer, ms)."""
    key_ends: dict[str, int] = field(default_factory=dict)
    """Public key → until when it is let in, in ms since 1970."""
    revoked: list[str] = field(default_factory=list)
    """Public keys that are let in no more."""
    invites: dict[str, Invite | None] = field(default_factory=dict)
    """By public key; None: it is over for good."""
    next_key: tuple[str, int] | None = None
    """The hub's next key, or "", and when it takes over in ms since 1970."""
    tokens: dict[str, Token | None] = field(default_factory=dict)
    """By id; None: it is over."""
    token_floors: dict[int, int] = field(default_factory=dict)
    """Peer → its tokens from before this moment count for nothing."""
    audit: list[Entry] = field(default_factory=list)
    origins: dict[int, Origin] = field(default_factory=dict)
    saved: tuple[int, int] | None = None
    """With `origins`: the last seq that they account for, and the first that may be an unfinished task."""
    messages: list[tuple[int, int, int, int, int, int, int, bytes | None, bytes]] = field(default_factory=list)
    """(seq, origin, n, recipient, kind, rank, sent ms, options, body)."""
    deliveries: list[tuple[int, int, int]] = field(default_factory=list)
    """(recipient, rank, seq): somebody is owed this message."""
    attempts: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(attempt, recipient, rank, seq)."""
    settled: list[tuple[int, int, int]] = field(default_factory=list)
    """(recipient, rank, seq): nobody is owed it any more."""
    send_keys: dict[tuple[int, str], SentKey] = field(default_factory=dict)
    """(sender, idempotency key) → (seq, ms)."""
    replies: list[tuple[int, int]] = field(default_factory=list)
    """(thread, seq): a message that replies to another."""
    expiries: list[tuple[int, int, int]] = field(default_factory=list)
    """(ms, seq, recipient): dead if it is not delivered by then."""
    expired: list[tuple[int, int, int]] = field(default_factory=list)
    """(ms, seq, recipient): that time has come."""
    delivered: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(ms, recipient, rank, seq): the recipient has it, and has not read it."""
    receipts: list[list[int]] = field(default_factory=list)
    """[recipient, stage, first seq, last seq, ms, session, generation]: a run of consecutive seqs that came to a stage
    at once."""
    failed_deliveries: list[tuple[int, int, int, int, int, int, str]] = field(default_factory=list)
    """(seq, recipient, attempt, session, generation, ms, why)."""
    dead: list[tuple[int, int, str, int]] = field(default_factory=list)
    """(seq, recipient, reason, ms)."""
    dead_closed: dict[tuple[int, int], tuple[int, int, int | None]] = field(default_factory=dict)
    """(seq, recipient) → (ms, who, as which seq it was sent again or None): a dead letter was dealt with."""
    entries: list[tuple[int, int, str | None]] = field(default_factory=list)
    """(channel, seq, name): the log of a channel."""
    overwritten: list[tuple[int, int]] = field(default_factory=list)
    """(channel, seq): not in the log of the channel any more, because a newer entry has its name."""
    channels: list[tuple[int, str, int | None, int]] = field(default_factory=list)
    """(id, mode, who made it, ms)."""
    cursors: dict[tuple[int, int, str], tuple[int, int]] = field(default_factory=dict)
    """(peer, channel, name) → (seq, ms): new ones."""
    seen: dict[tuple[int, int, str], tuple[int, int]] = field(default_factory=dict)
    """(peer, channel, name) → (seq, ms): a cursor moved."""
    forgotten: list[tuple[int, int, str]] = field(default_factory=list)
    """(peer, channel, name): cursors that were dropped."""
    is_told: bool = False
    """Whether somebody is told of what is written, so that it must be on disk first."""
    tasks: dict[int, TaskRow] = field(default_factory=dict)
    """By seq. Written over what is there."""
    task_attempts: list[AttemptRow] = field(default_factory=list)
    late_results: list[tuple[int, str, int, int, int]] = field(default_factory=list)
    """(ms, outcome, seq, lease, holder): refused, because that attempt is over; the first of each is kept."""
    checkpoints: dict[int, tuple[int, int, int, bytes] | None] = field(default_factory=dict)
    """By seq: (seq, attempt, ms, data), or None to forget it."""
    revived: list[int] = field(default_factory=list)
    """Tasks that are not dead any more."""

    @property
    def held(self) -> int:
        """How many acknowledgements, and places of cursors, wait for the next commit."""
        return len(self.settled) + len(self.delivered) + len(self.seen)

    def is_urgent(self) -> bool:
        """Whether somebody waits for this commit: all but what is `held`, which may ride with the next."""
        return bool(
            self.messages
            or self.tasks
            or self.origins
            or self.peers
            or self.keys
            or self.key_ends
            or self.revoked
            or self.invites
            or self.next_key is not None
            or self.tokens
            or self.token_floors
            or self.audit
            or self.addresses
            or self.attempts
            or self.failed_deliveries
            or self.dead
            or self.dead_closed
            or self.expired
            or self.channels
            or self.cursors
            or self.forgotten
            or self.checkpoints
            or self.late_results
            or self.is_told
        )


class Query(NamedTuple):
    """A question to the database, asked after the commit; its answer goes to `link` and refers to `ref`."""

    link: Link
    ref: int
    name: str
    params: dict[str, Any]


class Fetch(NamedTuple):
    """More rows wanted in memory; they come back to the decider through `loaded`.

    `what` is "mailbox" (after the key (rank, seq)), "channel" (after (0, seq); `link` is the subscriber) or "mail"
    (where `params["seqs"]` are for `recipient`). Where `ref` is not 0, it is for the CALL `ref` of `link`, and the
    decider answers that from the rows.
    """

    what: str
    recipient: int
    after: tuple[int, int]
    rows_max: int
    link: Link = None
    ref: int = 0
    params: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class Turn:
    """What one turn owes to the outside, after its commit."""

    now_ms: int
    """Milliseconds since 1970: for rows and people."""
    at_ms: int
    """Milliseconds of a clock that never jumps: for leases and deadlines."""
    out: dict[Link, list[Record]] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    kicks: list[Link] = field(default_factory=list)
    """Connections to close once their records are sent."""

    def send(self, link: Link, record: Record) -> None:
        """Owe `record` to `link`."""
        queue = self.out.get(link)
        if queue is None:
            self.out[link] = [record]
        else:
            queue.append(record)

    def sent(self, link: Link, n: int, seq: int) -> None:
        """Owe `link` the OK for its send `n`; neighbours share one record."""
        queue = self.out.get(link)
        if queue:
            last = queue[-1]
            if last[0] == OK and last[1] + last[3] == n and last[2] + last[3] == seq:
                last[3] += 1
                return
        self.send(link, [OK, n, seq, 1])
