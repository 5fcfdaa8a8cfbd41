"""The lobby: connections that have not proved a key yet, from which anybody may take the hub's memory. Pure.

libzmq takes a frame of any allowed size from a connection before its handshake is over, the gateway the head of a
request before it knows the token in it, and neither bounds how many such connections there are. So each of the two
ports has a lobby with a bound, in all and for each address they come from. Who comes when it is full takes the place of
whoever has been there for longer than a handshake takes; where there is nobody like that, the newcomer is turned away,
so that handshakes which are under way (of 500 agents after a restart, say) are not wasted.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

from orchestra.limits import LOBBY_MAX, LOBBY_PATIENCE_MS, LOBBY_PER_SOURCE_MAX, SESSIONLESS_S


@dataclass(frozen=True, slots=True)
class _Waiting:
    network: str
    since_ms: int


class Lobby:
    """The connections by their descriptor, the oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._crowd: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, descriptor: int, source: str, *, at_ms: int) -> int | None:
        """Take a new connection in; return which is to be closed so that there is room, if any: it may be the new one.

        Args:
            source: the IP address it comes from.
            at_ms: the steady clock.
        """
        self.leave(descriptor)
        network, closed = network_of(source), None
        is_crowd = self._crowd[network] >= LOBBY_PER_SOURCE_MAX
        if is_crowd or len(self._waiting) >= LOBBY_MAX:
            closed = self._oldest(at_ms, network if is_crowd else "")
            if closed is None:
                return descriptor
            self.leave(closed)
        self._waiting[descriptor] = _Waiting(network, at_ms)
        self._crowd[network] += 1
        return closed

    def leave(self, descriptor: int) -> None:
        """Forget a connection: it ended, or proved its key."""
        gone = self._waiting.pop(descriptor, None)
        if gone is not None:
            self._crowd[gone.network] -= 1
            if not self._crowd[gone.network]:
                del self._crowd[gone.network]

    def overdue(self, *, at_ms: int) -> list[int]:
        """Return who has been there for so long that its handshake is over, and it says nothing."""
        return [number for number, each in self._waiting.items() if at_ms - each.since_ms >= SESSIONLESS_S * 1000]

    def _oldest(self, at_ms: int, network: str = "") -> int | None:
        """Return who has been there for longest, and for too long; of one network, if it is named."""
        for descriptor, each in self._waiting.items():
            if not network or each.network == network:
                return descriptor if at_ms - each.since_ms >= LOBBY_PATIENCE_MS else None
        return None


def network_of(source: str) -> str:
    """Return whose address it is: an IPv4 address, or the /64 of an IPv6 one, which is what one machine may have."""
    address = ipaddress.ip_address(source)
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return str(address)
