"""One WebSocket: a link of the decider, and the connection under it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import ServerConnection

from orchestra.errors import NoSession
from orchestra.limits import GATEWAY_BURST_S, GATEWAY_MESSAGES_PER_S, KIB
from orchestra.wire import BYE, ERROR, HELLO, Record

from .dialogue import Dialogue
from .link import DirectLink

if TYPE_CHECKING:
    from .gateway import Gateway
    from .reception import Visit

DONE: Final = (1000, "")
SLOW: Final = 1013
_CODES: Final = {
    "stopping": 1001,
    "token_expired": 4401,
    "token_refused": 4401,
    "key_revoked": 4401,
    "grants": 4403,
    "silent": 4408,
    "replaced": 4409,
    "hub_full": SLOW,
    "not_allowed": 1008,
    "bad_address": 1008,
    "bad_option": 1008,
}
"""With which code a WebSocket is closed after what the hub said last; 1011 after anything else."""
OTHER: Final = 1011

_BYTES_A_MESSAGE: Final = 16 * KIB  # so much counts as one more message of a client's rate


class WebLink(DirectLink):
    """One WebSocket, as a link of the decider."""

    __slots__ = (
        "_gateway", "allowed", "allowed_at", "dialogue", "end", "identity", "is_closed", "is_heard", "is_queued",
        "owed", "room", "said", "socket", "stalled_at",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, socket: Connection, visit: Visit, dialogue: Dialogue) -> None:
        self._gateway = gateway
        self.socket = socket
        self.identity = visit.admission.identity
        self.dialogue = dialogue
        self.said: deque[bytes] = deque()
        """Frames for the hub."""
        self.owed: deque[Record] = deque()
        """What it has to be told."""
        self.is_queued = False
        self.is_closed = False
        self.is_heard = True
        """Whether anything came over it lately: an answer to a ping, if nothing else."""
        self.room: asyncio.Future[None] | None = None
        """Whoever waits for the hub to take what was said."""
        self.allowed = GATEWAY_MESSAGES_PER_S * GATEWAY_BURST_S
        self.allowed_at = time.monotonic()
        self.stalled_at = 0.0
        """Since when its client has read nothing of what waits for it; 0: nothing waits."""
        self.end = DONE
        """With which code and text it is closed."""

    def deliver(self, records: list[Record]) -> bool:
        return self._gateway.send(self, records)

    def kick(self) -> None:
        self._gateway.kick(self)

    def has_read(self) -> None:
        """Its client has taken all that was written for it."""
        if self.stalled_at:
            self.stalled_at = 0.0
            self.free()

    def free(self) -> None:
        """Let whoever waits look again whether there is room for what its client says."""
        if self.room is not None and not self.room.done():
            self.room.set_result(None)

    def pause_s(self, size: int) -> float:
        """Count one message of `size` bytes; return how long to wait before the next is read."""
        now = time.monotonic()
        most = GATEWAY_MESSAGES_PER_S * GATEWAY_BURST_S
        left = min(most, self.allowed + (now - self.allowed_at) * GATEWAY_MESSAGES_PER_S) - 1 - size / _BYTES_A_MESSAGE
        self.allowed, self.allowed_at = left, now
        return max(0.0, -left / GATEWAY_MESSAGES_PER_S)


class Connection(ServerConnection):
    """A connection of the `websockets` library that tells the gateway when it may write again."""

    def __init__(self, gateway: Gateway, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gateway = gateway
        self.link: WebLink | None = None
        self.visit: Visit | None = None
        self.is_counted = False
        self.descriptor = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._gateway.met(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gateway.lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._gateway.give_way()
        if self.link is not None:
            self.link.is_heard = True
        super().data_received(data)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.link is not None:
            self._gateway.wrote(self.link)


def end_of(record: Record) -> tuple[int, str] | None:
    """Return with what a WebSocket is closed after this record: its session is over, or it will get none."""
    if record[0] == BYE:
        return _CODES.get(record[1], OTHER), record[2]
    if record[0] == ERROR and (record[1] == HELLO or record[3] == NoSession.code):
        return _CODES.get(record[3], OTHER), record[4]
    return None
