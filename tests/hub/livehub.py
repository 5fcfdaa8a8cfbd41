"""A real hub in the test's own loop, real clients, and peers that say whatever a test likes on a real socket."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from orchestra import aio, wire
from orchestra.address import parse_peer
from orchestra.hub.service import Hub
from orchestra.hub.settings import GatewaySettings, HubSettings
from orchestra.keys import KeyPair, make_key_pair, save_key
from orchestra.limits import ROUTING_ID_BYTES
from orchestra.state import StateFolder
from orchestra.wire import Record

from .fakehub import hello, new_epoch

BOUND_S = 5.0
"""How long anything may take that should come at once."""

_read = wire.Decoder(wire.FROM_HUB).decode


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario in a loop of its own; what it forgot to end, and what went wrong in a callback, fails the test."""
    broken: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
        async with asyncio.timeout(12 * BOUND_S):
            await scenario

    asyncio.run(bounded())
    assert not broken, broken


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Wait until `condition` holds; fail after the bound."""
    try:
        async with asyncio.timeout(BOUND_S):
            while not condition():  # noqa: ASYNC110 - what the hub holds has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what or condition}") from None


async def soon(awaitable: Any) -> Any:
    """Wait for something that should come at once."""
    return await asyncio.wait_for(awaitable, BOUND_S)


async def trickle(target: tuple[str, int], head: bytes, rest: bytes) -> None:
    """Say `head` at once and `rest` a byte at a time, until the other side ends the connection."""
    reader, writer = await asyncio.open_connection(*target)
    writer.write(head)
    following = iter(rest)
    async with asyncio.timeout(BOUND_S):
        while not reader.at_eof():
            writer.write(bytes([next(following)]))
            try:
                async with asyncio.timeout(0.02):
                    await reader.read(1000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    writer.close()


class LiveHub:
    """A hub that serves, and what tests look at."""

    def __init__(self, folder: Path, *, port: int = 0, gateway: GatewaySettings | None = None) -> None:
        self.folder = StateFolder(folder / "state")
        self.hub = Hub(HubSettings(self.folder, port=port, durability="fast", gateway=gateway))
        self._is_ready = asyncio.Event()
        self._serving = asyncio.get_running_loop().create_task(self.hub.run(ready=self._is_ready.set))

    @classmethod
    async def open(cls, folder: Path, *, port: int = 0, gateway: GatewaySettings | None = None) -> LiveHub:
        hub = cls(folder, port=port, gateway=gateway)
        await hub._is_ready.wait()
        return hub

    async def close(self) -> None:
        self.hub.stop()
        try:
            await self._serving
        finally:
            self.hub.close()
            gc.unfreeze()

    @property
    def decider(self) -> Any:
        return self.hub._decider

    @property
    def store(self) -> Any:
        return self.hub._store

    @property
    def router(self) -> Any:
        return self.hub._router

    @property
    def tcp(self) -> str:
        return next(each for each in self.hub.endpoints if each.startswith("tcp://"))

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, port = self.tcp.removeprefix("tcp://").rsplit(":", 1)
        return host.strip("[]"), int(port)

    @property
    def public_key(self) -> str:
        return self.folder.read_card().public_key

    def count(self, name: str) -> int:
        return int(self.decider.state.counts[name])

    def enrol(self, text: str) -> KeyPair:
        """Make a key, and let the hub know it as an operator's call would."""
        pair = make_key_pair()
        address = parse_peer(text)
        path = self.folder.key_of(address)
        if not path.exists():
            save_key(path, pair, owner=text)
        self.decider.state.add_peer(address, pair.public, now_ms=0)
        self.hub._commit()
        return pair

    def connect(self, text: str, **options: Any) -> Any:
        """Give a client of the library for a peer that is enrolled now."""
        key = options.pop("key", None) or self.enrol(text)
        return aio.connect(state=self.folder.path, address=text, key=key, **options)

    def session(self, text: str) -> Any:
        (session,) = self.decider.state.roster.peers[text].sessions
        return session


@asynccontextmanager
async def live_hub(folder: Path, *, port: int = 0, gateway: GatewaySettings | None = None) -> AsyncIterator[LiveHub]:
    hub = await LiveHub.open(folder, port=port, gateway=gateway)
    try:
        yield hub
    finally:
        await hub.close()


class RawPeer:
    """A DEALER with a key of its own that keeps no rules."""

    def __init__(
        self,
        hub: LiveHub,
        text: str,
        key: KeyPair,
        *,
        routing_id: bytes | None = None,
        endpoint: str | None = None,
        **options: int,
    ) -> None:
        self.text = text
        self.epoch = new_epoch()
        self.told: list[Record] = []
        self._context = zmq.asyncio.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.routing_id = os.urandom(ROUTING_ID_BYTES - 1) + b"\x01" if routing_id is None else routing_id
        if self.routing_id:
            self.socket.set(zmq.ROUTING_ID, self.routing_id)
        self.socket.set(zmq.CURVE_SERVERKEY, hub.public_key.encode())
        self.socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        self.socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.IPV6, 1)
        for name, value in options.items():
            self.socket.set(getattr(zmq, name), value)
        self.monitor = self.socket.get_monitor_socket()
        self.socket.connect(endpoint or hub.tcp)

    async def say(self, *records: Record) -> None:
        await soon(self.socket.send(wire.pack(list(records))))

    async def say_frames(self, *frames: bytes) -> None:
        await soon(self.socket.send_multipart(list(frames)))

    async def hello(self, **fields: Any) -> None:
        await self.say(hello(epoch=self.epoch, **fields))
        assert (await self.next())[0] == wire.WELCOME

    async def next(self) -> Record:
        """Return the next record the hub says."""
        while not self.told:
            records, faults = _read(await soon(self.socket.recv()))
            assert not faults
            self.told += records
        return self.told.pop(0)

    async def hears(self) -> list[Record]:
        """Return all that was said until the answers to two PINGs: what a turn reads from the database comes later."""
        heard: list[Record] = []
        for _ in range(2):
            token = int.from_bytes(os.urandom(6), "big")
            await self.say([wire.PING, token])
            while (record := await self.next()) != [wire.PONG, token]:
                heard.append(record)
        return heard

    async def event(self, *wanted: int) -> int:
        """Wait for one of these events of the connection."""
        while True:
            frames = await soon(self.monitor.recv_multipart())
            number = int.from_bytes(frames[0][:2], "little")
            if number in wanted:
                return number

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
        self._context.term()


@asynccontextmanager
async def raw_peer(hub: LiveHub, text: str, **options: Any) -> AsyncIterator[RawPeer]:
    """Connect a peer that keeps no rules; enrolled, unless a key is given."""
    key = options.pop("key", None) or hub.enrol(text)
    peer = RawPeer(hub, text, key, **options)
    try:
        yield peer
    finally:
        peer.close()
