"""One channel in memory: what its log holds, and who follows it. Pure.

The log itself is in the database. A named entry overwrites the earlier one of its name, so the log that a later reader
gets is compacted; only the newest seq of each name is kept here, because who may overwrite it is decided by it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from orchestra.limits import FOLLOWER_BYTES_MAX

from .turn import Link

APPEND: Final = "append"
OVERWRITE: Final = "overwrite"
MODES: Final = (APPEND, OVERWRITE)
"""What becomes of an entry without a name: it is kept beside the others, or overwrites the one before it."""


class Newest(NamedTuple):
    """The newest entry of one name."""

    seq: int
    sender: str


@dataclass(slots=True, eq=False)
class Follower:
    """One session's place in a channel.

    Attributes:
        seq: the newest entry it was sent, or the seq it began after.
        window: how many entries may be on their way to it.
        missed: up to this seq it was told that retention removed entries before it got them.
        on_way: (seq, bytes) of the entries that it was sent and has not said it has seen.
        on_way_bytes: of all of them.
        is_behind: new entries are not pushed to it; it catches up from the database as there is room.
    """

    seq: int
    window: int
    missed: int
    is_behind: bool
    on_way: deque[tuple[int, int]] = field(default_factory=deque)
    on_way_bytes: int = 0

    @property
    def room(self) -> int:
        """How many more entries it may be sent now."""
        return self.window - len(self.on_way) if self.on_way_bytes < FOLLOWER_BYTES_MAX else 0

    def sent(self, seq: int, size: int) -> None:
        self.seq = seq
        self.on_way.append((seq, size))
        self.on_way_bytes += size

    def has_seen(self, seq: int) -> None:
        """It has dealt with all entries up to `seq`."""
        on_way = self.on_way
        while on_way and on_way[0][0] <= seq:
            self.on_way_bytes -= on_way.popleft()[1]


@dataclass(slots=True, eq=False)
class Channel:
    """A named log.

    Attributes:
        made_by: the id of the peer that made it, None for those every hub has (and `made_ms` 0).
        trimmed_seq: the newest entry that retention removed; 0 while none was.
        last_seq: its newest entry, 0 before there is one.
        count: how many entries a reader from the start gets.
        newest: name → the newest entry of that name.
    """

    id: int
    text: str
    mode: str
    made_by: int | None
    made_ms: int
    trimmed_seq: int = 0
    last_seq: int = 0
    count: int = 0
    newest: dict[str, Newest] = field(default_factory=dict)
    followers: dict[Link, Follower] = field(default_factory=dict)
