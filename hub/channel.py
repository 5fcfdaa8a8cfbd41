"""One channel in memory: what its log holds, and who follows it. Pure.

The log itself is in the database. A named entry overwrites the earlier one of its name, so the log that a later reader
gets is compacted; only the newest seq of each name is kept here, because who may overwrite it is decided by it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

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
        window: how many entries it may be sent that it has not said it has seen.
        on_way: the seqs of those.
        is_behind: new entries are not pushed to it; it catches up from the database as its window allows.
    """

    seq: int
    window: int
    on_way: deque[int] = field(default_factory=deque)
    is_behind: bool = False


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
