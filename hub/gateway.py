"""The WebSocket transport: the hub's second one, in the hub's own loop.

Each WebSocket is a link of the decider, as a connection of the ROUTER is. What a client says becomes frames of the wire
and is decoded like any other; what the hub owes it is written as JSON by a pump that works for a fraction of a
millisecond at a time, so that many browsers never hold up a turn. Nothing here waits for a client: one that does not
read is closed, and what it is owed stays in the database.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import resource
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from orchestra.address import parse_address
from orchestra.errors import Malformed
from orchestra.limits import (
    EPOCH_BYTES,
    GATEWAY_CONNECTIONS_MAX,
    GATEWAY_HEARD_MAX,
    GATEWAY_MESSAGE_BYTES_MAX,
    GATEWAY_OWED_RECORDS_MAX,
    GATEWAY_PING_S,
    GATEWAY_PUMP_S,
    GATEWAY_STALL_S,
    GATEWAY_UNSENT_BYTES_MAX,
)
from orchestra.wire import BYE, Record, pack

from .dialogue import MODERN, Dialogue
from .lobby import Lobby
from .port import listen, name_of, tls_context
from .reception import Hall, Reception, Visit
from .router import Arrived
from .settings import GatewaySettings
from .site import load_site
from .vocabulary import Message, write_message
from .websocket import DONE, OTHER, SLOW, Connection, WebLink, end_of

logger = logging.getLogger(__name__)

_OPEN_S: Final = 10.0  # from the first byte to the end of the request
_CLOSE_S: Final = 2.0  # for the client's side of closing
_HTTP_CLOSE_S: Final = 5.0
_FILES_SPARE: Final = 128  # more than the ROUTER spares: peers with keys come first
_REASON_BYTES_MAX: Final = 120  # of a close frame, which holds 125 bytes
_SEND_TEXT: Final = True
_WRITTEN_MIN: Final = 4  # clients that get their share, each some 50 µs, although the hub has input


class Gateway:
    """The WebSockets of a hub, and its HTTP side. Everything the hub's loop calls returns at once."""

    def __init__(self, settings: GatewaySettings, hall: Hall, *, counts: Counter[str]) -> None:
        """Bind; nothing is served before `start`.

        Raises:
            PortInUse: if another program listens there; it is named where the system tells.
            StateFault: if the address, the certificate or its key can't be used.
        """
        self._hall = hall
        self._counts = counts
        self._tls = tls_context(settings)
        self._listening = listen(settings)
        port = self._listening[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://{name_of(settings)}:{port}"
        self._reception = Reception(
            hall,
            load_site(),
            port=port,
            names=(settings.host, socket.gethostname(), *settings.names),
            is_tls=self._tls is not None,
            is_open=not settings.is_loopback,
        )
        self._servers: list[Server] = []
        self.links: set[WebLink] = set()
        self._speaking: deque[WebLink] = deque()
        self._ended: list[WebLink] = []
        self._owing: deque[WebLink] = deque()
        self._unconfirmed: set[WebLink] = set()
        self._shared: dict[int, tuple[Record, bytes]] = {}
        """What was written for one client and is the same for all who are told the same record."""
        self._is_pumping = False
        self._connections = 0
        self._lobby = Lobby()
        self._waiting: dict[int, Connection] = {}
        """Who has not sent a whole request with a good token yet, by descriptor."""
        self._file_max = _file_max()
        self._closing: set[asyncio.Task[None]] = set()

    # Its life.

    async def start(self) -> None:
        """Serve from now on."""
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.WARNING)  # what it says below that holds requests, and so tokens
        for each in self._listening:
            self._servers.append(await self._serve_on(each, quiet))

    async def _serve_on(self, listening: socket.socket, quiet: logging.Logger) -> Server:
        return await serve(
            self._serve,
            sock=listening,
            ssl=self._tls,
            ssl_handshake_timeout=_OPEN_S if self._tls else None,
            process_request=self._process_request,  # type: ignore[arg-type]
            select_subprotocol=lambda _, offered: MODERN if MODERN in offered else None,  # type: ignore[arg-type, return-value]
            create_connection=partial(Connection, self),  # type: ignore[arg-type]
            compression=None,  # costs 64 KiB a connection, and mixes secrets with what others chose
            server_header=None,
            open_timeout=_OPEN_S,
            ping_interval=GATEWAY_PING_S,
            ping_timeout=GATEWAY_PING_S,
            close_timeout=_CLOSE_S,
            max_size=GATEWAY_MESSAGE_BYTES_MAX,
            max_queue=4,
            write_limit=(GATEWAY_UNSENT_BYTES_MAX, 0),
            logger=quiet,
        )

    async def stop(self) -> None:
        """Tell everybody that the hub goes away, and wait until they are gone."""
        for link in list(self._owing):
            link.is_queued = False
            self._write(link, math.inf)
        self._owing.clear()
        for link in self.links:
            asyncio.get_running_loop().call_later(_CLOSE_S, link.socket.transport.abort)
        for server in self._servers:
            server.close(code=1001, reason="the hub is stopping")
        for connection in list(self._waiting.values()):  # browsers open some that they may need later
            connection.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        for task in list(self._closing):
            with suppress(ConnectionClosed):
                await task

    def close(self) -> None:
        """Release the port; also if it never served."""
        for each in self._listening:
            each.close()

    # What the hub's loop calls.

    @property
    def has_input(self) -> bool:
        return bool(self._speaking or self._ended)

    @property
    def is_busy(self) -> bool:
        """Whether there is something to write."""
        return bool(self._owing)

    def drain(self, frames_max: int) -> Iterator[Arrived]:
        """Give what clients have said, one frame of each in turn, at most `frames_max`."""
        for _ in range(min(frames_max, sum(len(link.said) for link in self._speaking))):
            link = self._speaking.popleft()
            frame = link.said.popleft()
            if link.said:
                self._speaking.append(link)
            link.free()
            yield Arrived(link, link.identity, frame)

    def gone(self) -> list[WebLink]:
        """Return the connections that ended and have nothing left to say."""
        ended = [link for link in self._ended if not link.said]
        self._ended = [link for link in self._ended if link.said]
        return ended

    def send(self, link: WebLink, records: list[Record]) -> bool:
        """Owe `records` to one client; False if it is gone, or leaves too much unread."""
        if link.is_closed:
            return False
        link.owed.extend(records)
        if not link.is_queued:
            link.is_queued = True
            self._owing.append(link)
        if len(link.owed) > GATEWAY_OWED_RECORDS_MAX:
            self._drop_slow(link)
            return False
        return True

    def kick(self, link: WebLink) -> None:
        """Close the connection, once it was told what it is owed."""
        if link.is_queued:
            self._write(link, time.monotonic() + GATEWAY_PUMP_S)
        self._close(link, *link.end)

    def pump(self) -> None:
        """Write for a moment; what is left is written between the turns that follow."""
        until = time.monotonic() + GATEWAY_PUMP_S
        written = 0
        while self._owing:
            link = self._owing.popleft()
            link.is_queued = False
            self._write(link, until)
            written += 1
            if written >= _WRITTEN_MIN and self._hall.has_input():
                self._hall.wake()  # having looked, we were told of it, and libzmq's descriptor will not tell again
                break
            if time.monotonic() >= until:
                break
        if not self._owing:
            self._shared.clear()
        elif not self._is_pumping:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump_again)

    def heard(self) -> list[WebLink]:
        """Return the connections that something came over since the last call."""
        heard = [link for link in self.links if link.is_heard]
        for link in heard:
            link.is_heard = False
        return heard

    def tick(self) -> None:
        """Tell of who came and went, confirm what was read since, and close who reads nothing."""
        now = time.monotonic()
        for link in list(self._unconfirmed):
            self.wrote(link)
        for link in list(self.links):
            for news in link.dialogue.news():
                self._write_one(link, write_message(news))
            if link.dialogue.owes:
                self._unconfirmed.add(link)
            if link.socket.transport.get_write_buffer_size() == 0:
                link.has_read()
            elif not link.stalled_at:
                link.stalled_at = now
            elif now - link.stalled_at >= GATEWAY_STALL_S:
                self._drop_slow(link)

    # What connections call.

    def give_way(self) -> None:
        """Let peers with keys go first: asyncio would do all that is ready, of any number of clients, before it looks
        at their sockets again."""
        self._hall.give_way()

    def met(self, connection: Connection) -> None:
        """A connection was made; one that would take the last files, or is one too many, is cut off."""
        connection.is_counted = True
        self._connections += 1
        tcp = connection.transport.get_extra_info("socket")
        # asyncio does this only where a socket names its protocol, which `socket.create_server` does not. Without it a
        # message waits until the client has confirmed the one before, up to 40 ms.
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = tcp.fileno()
        if self._connections > GATEWAY_CONNECTIONS_MAX or descriptor > self._file_max:
            self._counts["gateway_full"] += 1
            connection.transport.abort()
            return
        connection.descriptor = descriptor
        self._waiting[descriptor] = connection
        source = connection.transport.get_extra_info("peername")[0]
        closed = self._lobby.enter(descriptor, source, at_ms=time.monotonic_ns() // 1_000_000)
        if closed is not None:
            self._counts["lobby_full" if closed == descriptor else "crowded_out"] += 1
            self._waiting[closed].transport.abort()

    def lost(self, connection: Connection) -> None:
        self._is_known(connection)
        self._connections -= connection.is_counted
        connection.is_counted = False

    def _is_known(self, connection: Connection) -> None:
        """Who showed a token, or left, takes no room of those who come."""
        if self._waiting.get(connection.descriptor) is connection:
            del self._waiting[connection.descriptor]
            self._lobby.leave(connection.descriptor)

    def wrote(self, link: WebLink) -> None:
        """The client has taken what was written for it."""
        if link.is_closed or link.socket.transport.get_write_buffer_size():
            return
        self._unconfirmed.discard(link)
        link.has_read()
        self._say(link, link.dialogue.written())
        if link.owed and not link.is_queued:
            link.is_queued = True
            self._owing.append(link)
            self.pump()

    async def _process_request(self, connection: Connection, request: Request) -> Response | None:
        source = str((connection.remote_address or ("?",))[0])
        found = await self._reception.answer(request, source)
        if isinstance(found, Visit):
            connection.visit = found
            return None
        connection.close_timeout = _HTTP_CLOSE_S
        return found

    async def _serve(self, connection: ServerConnection) -> None:
        """Hear one client until it is gone."""
        assert isinstance(connection, Connection)
        assert connection.visit is not None
        self._is_known(connection)
        visit = connection.visit
        dialogue = Dialogue(parse_address(visit.admission.claims.subject), visit.wishes, moment=_moment)
        link = connection.link = WebLink(self, connection, visit, dialogue)
        self.links.add(link)
        about = {"host": visit.source, "program": "websocket"}
        self._say(link, dialogue.hello(epoch=os.urandom(EPOCH_BYTES), about=about))
        try:
            async for text in connection:
                await self._hear(link, text)
        except ConnectionClosed:
            pass
        finally:
            self._leave(link)

    async def _hear(self, link: WebLink, text: str | bytes) -> None:
        self.give_way()
        records, answers = link.dialogue.hear(text)
        self._say(link, records)
        for answer in answers:
            self._write_one(link, write_message(answer))
        pause_s = link.pause_s(len(text))
        if pause_s:
            await asyncio.sleep(pause_s)
        while not link.is_closed and (len(link.said) >= GATEWAY_HEARD_MAX or link.stalled_at):  # who reads is heard
            link.room = asyncio.get_running_loop().create_future()
            await link.room
            link.room = None

    def _say(self, link: WebLink, records: list[Record]) -> None:
        """Put records on the wire, for the hub's next turn."""
        for record in records:
            try:
                frame = pack([record])
            except (ValueError, OverflowError, TypeError, RecursionError):
                error = Malformed("a number is larger than 2^64, a text is no UTF-8, or it is nested too deeply")
                for answer in link.dialogue.refused(record, error):
                    self._write_one(link, write_message(answer))
                continue
            if not link.said:
                self._speaking.append(link)
            link.said.append(frame)
            self._hall.wake()

    def _leave(self, link: WebLink) -> None:
        """The connection is gone. A client that closed it in order gives back at once what it holds."""
        link.is_closed = True
        self.links.discard(link)
        self._unconfirmed.discard(link)
        link.owed.clear()
        if link.socket.protocol.close_rcvd is not None and link.end == DONE:
            self._say(link, [[BYE, "", "the WebSocket was closed"]])
        self._ended.append(link)
        self._hall.wake()

    # Writing.

    def _pump_again(self) -> None:
        self._is_pumping = False
        self.pump()

    def _write(self, link: WebLink, until: float) -> None:
        """Write what a client is owed: all of it, or until the moment is over or it has to read first."""
        transport, dialogue = link.socket.transport, link.dialogue
        while link.owed and not link.is_closed:
            if transport.get_write_buffer_size() > GATEWAY_UNSENT_BYTES_MAX:
                link.stalled_at = link.stalled_at or time.monotonic()
                return  # it is queued again when it has read
            record = link.owed.popleft()
            try:
                told = self._encoded(dialogue, record)
            except Exception:  # a fault of ours must not take the turn of everybody with it
                logger.exception("a record could not be told to %s", dialogue.address, extra={"action": "not_told"})
                self._close(link, OTHER, "the gateway failed; connect again")
                return
            for data in told:
                self._write_one(link, data)
            end = end_of(record)
            if end is not None:
                self._close(link, *end)
                return
            if time.monotonic() >= until:
                break
        if link.owed:
            link.is_queued = True
            self._owing.append(link)
        elif dialogue.owes:
            if transport.get_write_buffer_size():
                self._unconfirmed.add(link)
            else:
                self._say(link, dialogue.written())

    def _encoded(self, dialogue: Dialogue, record: Record) -> list[bytes]:
        """Return the JSON that a record is for a client; what is the same for many is made once."""
        if not dialogue.is_shared(record):
            return [write_message(message) for message in dialogue.tell(record)]
        known = self._shared.get(id(record))
        if known is None:
            told: list[Message] = dialogue.tell(record)
            known = self._shared[id(record)] = record, write_message(told[0])  # kept, so that its id stays its own
        return [known[1]]

    def _write_one(self, link: WebLink, data: bytes) -> None:
        broadcast((link.socket,), data, text=_SEND_TEXT)  # the one way of the library to write without waiting

    def _drop_slow(self, link: WebLink) -> None:
        if not link.is_closed:
            self._counts["slow_reader"] += 1
            logger.warning(
                "%s is dropped: its WebSocket left %d records unread",
                link.dialogue.address,
                len(link.owed),
                extra={"action": "slow_reader"},
            )
            self._close(link, SLOW, "slow consumer: what you have not read waits for you")
            self._ended.append(link)  # what it was sent waits for another from now on
            self._hall.wake()

    def _close(self, link: WebLink, code: int, reason: str) -> None:
        if link.is_closed or link.socket.protocol.state is not State.OPEN:
            return
        link.is_closed = True
        link.end = code, reason
        link.owed.clear()
        link.free()
        short = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
        loop = asyncio.get_running_loop()
        task = loop.create_task(link.socket.close(code, short))
        loop.call_later(_CLOSE_S, link.socket.transport.abort)  # who reads nothing would hold up closing for ever
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _moment(at_ms: int) -> str:
    """Return a time as JavaScript's `toISOString` writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _file_max() -> int:
    """Return the highest descriptor that a WebSocket may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - min(_FILES_SPARE, limit // 3)
