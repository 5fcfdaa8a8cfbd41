"""A bad network: a TCP proxy between peers and a hub that a test makes worse and better.

What real networks do, and no more: bytes are late, come in pieces, or stop coming; a connection ends for both sides
(FIN or RST) or for nobody (a router that forgot it swallows what is sent). Bytes are never changed or reordered, since
TCP does not either.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Connection:
    """One connection of a peer, and ours to the hub. `swallowed` names the directions that lead nowhere any more."""

    peer: asyncio.StreamWriter
    hub: asyncio.StreamWriter
    swallowed: set[str] = field(default_factory=set)

    def end(self, *, is_reset: bool) -> None:
        for writer in (self.peer, self.hub):
            if is_reset:
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Make it with `proxy`.

    Attributes:
        endpoint: where peers connect.
        delay_s: how late each piece is.
        piece_bytes: the longest piece that is passed on at once.
        is_refusing: whether new connections are ended at once.
        accepted: how many connections there were.
    """

    def __init__(self, host: str, port: int) -> None:
        self.endpoint = ""
        self.delay_s = 0.0
        self.piece_bytes = _PIECE_BYTES
        self.is_refusing = False
        self.accepted = 0
        self._target = host, port
        self._connections: dict[_Connection, None] = {}
        self._moving = asyncio.Event()
        self._moving.set()
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def heal(self) -> None:
        """Make it a good network; what was swallowed stays so."""
        self.delay_s, self.piece_bytes, self.is_refusing = 0.0, _PIECE_BYTES, False
        self._moving.set()

    def hold(self) -> None:
        """Let nothing through until `heal`; nothing is lost."""
        self._moving.clear()

    def cut(self, *, is_reset: bool) -> None:
        """End all connections; both sides are told."""
        for connection in list(self._connections):
            connection.end(is_reset=is_reset)

    def swallow(self, *directions: str) -> None:
        """Let all connections there are lead nowhere in these directions (`up` to the hub, `down`); nobody is told."""
        for connection in self._connections:
            connection.swallowed |= set(directions)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A peer has connected."""
        self.accepted += 1
        self._writers.add(writer)
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for writer in self._writers:  # of those that had not even begun
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection until it ends."""
        writers = [writer]
        try:
            if not self.is_refusing:
                with suppress(OSError):
                    from_hub, to_hub = await asyncio.open_connection(*self._target)
                    writers.append(to_hub)
                    await self._pass_on(_Connection(writer, to_hub), reader, from_hub)
        finally:
            for each in writers:
                each.close()
            self._writers.discard(writer)

    async def _pass_on(
        self, connection: _Connection, from_peer: asyncio.StreamReader, from_hub: asyncio.StreamReader
    ) -> None:
        self._connections[connection] = None
        pumps = [
            asyncio.ensure_future(self._pump(connection, "up", from_peer, connection.hub)),
            asyncio.ensure_future(self._pump(connection, "down", from_hub, connection.peer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            del self._connections[connection]

    async def _pump(
        self, connection: _Connection, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on what comes in one direction; returns when that ends."""
        with suppress(OSError):
            while data := await reader.read(self.piece_bytes):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)  # what is tested: a late network
                await self._moving.wait()
                if direction not in connection.swallowed:
                    writer.write(data)
                    await writer.drain()
        if direction in connection.swallowed:  # nobody is told
            await asyncio.Event().wait()


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """Open a proxy in front of `target`, an endpoint `tcp://HOST:PORT`."""
    host, _, port = target.removeprefix("tcp://").rpartition(":")
    made = Proxy(host, int(port))
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.endpoint = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await made.close()
        await server.wait_closed()


Trouble = Callable[[Proxy, random.Random], object]


def _delay(network: Proxy, chance: random.Random) -> None:
    network.delay_s = chance.uniform(0.01, 0.15)


def _trickle(network: Proxy, chance: random.Random) -> None:
    network.delay_s, network.piece_bytes = 0.001, chance.randrange(1, 400)


def _hold(network: Proxy, chance: random.Random) -> None:
    network.hold()


def _refuse(network: Proxy, chance: random.Random) -> None:
    network.is_refusing = True
    network.cut(is_reset=chance.random() < 0.5)


def _cut(network: Proxy, chance: random.Random) -> None:
    network.cut(is_reset=chance.random() < 0.5)


TROUBLES: dict[str, Trouble] = {
    "delay": _delay,
    "trickle": _trickle,
    "hold": _hold,
    "refuse": _refuse,
    "cut": _cut,
}


@dataclass(frozen=True, slots=True)
class Spell:
    """A spell of trouble and how long it lasts."""

    trouble: str
    seconds: float


def plan(seed: int, spells: int) -> list[Spell]:
    """Return what a network goes through; the same seed gives the same."""
    chance = random.Random(seed)
    return [Spell(chance.choice(sorted(TROUBLES)), chance.choice((0.02, 0.1, 0.3, 0.6))) for _ in range(spells)]


async def suffer(network: Proxy, seed: int, spells: int) -> None:
    """Let the network go through a plan. Troubles may add up: each second one is healed. It is well at the end."""
    chance = random.Random(seed)
    for number, spell in enumerate(plan(seed, spells)):
        TROUBLES[spell.trouble](network, chance)
        await asyncio.sleep(spell.seconds)  # what is tested: how long it lasts
        if number % 2:
            network.heal()
    network.heal()
