"""What the peers know to be true: the other side of every comparison with the hub's tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Sent(NamedTuple):
    """One send as its application made it. Bodies are unique, so they name the send."""

    sender: str
    epoch: bytes
    n: int
    to: str
    kind: int


@dataclass(slots=True)
class Truth:
    """Attributes:
    sent: body → the send.
    stored: (epoch, n) → (seq, body) that the hub said OK to.
    acked: (address, seq) that an application of the address has read or dealt with.
    retried: the tasks that somebody asked for another try of.
    results: (seq of a task, lease) → the number of the result that the hub said OK to.
    finished: (epoch, seq) → the state a watcher was told.
    answers: seq of a task → the answers that somebody gave it.
    checkpoints: seq of a task → the newest checkpoint that its agent was told is kept.
    keys: (address, key) → the seq that was stored under it first.
    resent: seqs of the messages that the hub made of dead letters.
    removed: what retention removed of the log and of channels; `removed_dead` are the (address, seq) of dead letters.
    seen: (address, channel) → the newest entry that an application with a cursor has dealt with.
    """

    sent: dict[bytes, Sent] = field(default_factory=dict)
    stored: dict[tuple[bytes, int], tuple[int, bytes]] = field(default_factory=dict)
    acked: set[tuple[str, int]] = field(default_factory=set)
    retried: set[int] = field(default_factory=set)
    results: dict[tuple[int, int], int] = field(default_factory=dict)
    finished: dict[tuple[bytes, int], str] = field(default_factory=dict)
    answers: dict[int, set[str]] = field(default_factory=dict)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)
    resent: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    removed_dead: set[tuple[str, int]] = field(default_factory=set)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
