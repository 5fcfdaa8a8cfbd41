"""What a hub process is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from orchestra.state import StateFolder

from .retention import Keep
from .store import Durability

PORT_DEFAULT: Final = 7420
HOST_DEFAULT: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Attributes:
    state: the folder of the database, the keys and the local socket.
    host: the address to listen on; other machines need one that they reach.
    port: the TCP port; 0 takes a free one.
    durability: `full` survives a power cut, `fast` any crash of a process.
    sends_per_second: how many messages and tasks one peer may send; 0 is as many as it can.
    keep: how much of what is over is kept.
    holds_unknown_keys: whether keys that come from other machines are held as pending, for somebody to accept.
    """

    state: StateFolder
    host: str = HOST_DEFAULT
    port: int = PORT_DEFAULT
    durability: Durability = "full"
    sends_per_second: int = 0
    keep: Keep = field(default_factory=Keep)
    holds_unknown_keys: bool = False
