"""The network: connections that keep their order, may stall, and lose what was under way when they are cut."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

Frame = bytes | None
"""What travels; None is the end of the connection, which the other side then notices."""


@dataclass(eq=False)
class Connection:
    """One connection. `link` is what the hub calls it.

    Attributes:
        up, down: frames under way to the hub and to the peer.
        is_cut: nothing more can be sent on it; what is under way may still arrive.
        stalled: the directions ("up", "down") in which nothing arrives for now.
    """

    link: int
    address: str
    up: deque[Frame] = field(default_factory=deque)
    down: deque[Frame] = field(default_factory=deque)
    is_cut: bool = False
    is_known_lost: bool = False
    """The hub knows that it is over."""
    stalled: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.address} on connection {self.link}"

    def to_hub(self, frame: bytes) -> None:
        if not self.is_cut:
            self.up.append(frame)

    def to_peer(self, frame: bytes) -> None:
        if not self.is_cut:
            self.down.append(frame)

    def cut(self, *, lost_up: int = 0, lost_down: int = 0, tells_hub: bool = True, tells_peer: bool = True) -> None:
        """End it: the last frames of each direction are lost, and a side that is not told finds out by silence."""
        if self.is_cut:
            return
        self.is_cut = True
        for queue, lost, tells in ((self.up, lost_up, tells_hub), (self.down, lost_down, tells_peer)):
            for _ in range(min(lost, len(queue))):
                queue.pop()
            if tells:
                queue.append(None)


class Network:
    """Every connection on which something may still arrive."""

    def __init__(self) -> None:
        self._last_link = 0
        self.connections: dict[int, Connection] = {}

    def connect(self, address: str) -> Connection:
        self._last_link += 1
        made = Connection(self._last_link, address)
        self.connections[made.link] = made
        return made

    def forget_ended(self) -> None:
        """Drop the connections that nobody can hear anything of any more."""
        for link, each in list(self.connections.items()):
            if each.is_cut and not each.up and not each.down:
                del self.connections[link]
