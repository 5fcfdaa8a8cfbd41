"""A thousand WebSockets at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect

from orchestra import aio
from orchestra.keys import make_key_pair

from .gateways import hub_with_gateway
from .programs import BOUND_S, Place, may_open, open_files, resident_bytes, wait_until

BROWSERS = 1000
PEERS = 20  # one may have 64 sessions
AT_ONCE = 100  # handshakes; more from one address take turns with other strangers
FILES = BROWSERS + 200
KIB = 2**10
CONNECTION_BYTES_MAX = 128 * KIB  # several times what one costs


@pytest.fixture
def many_files() -> Iterator[None]:
    with may_open(FILES):
        yield


def test_1000_websockets_are_connected_at_once_each_gets_its_own_and_they_leave_nothing(
    place: Place, many_files: None
) -> None:
    hub, url = hub_with_gateway(place)

    async def scenario() -> None:
        async with aio.connect(state=place.state) as operator, asyncio.timeout(4 * BOUND_S):
            tokens = [await _token(operator, f"matrix/m{number}") for number in range(PEERS)]
            bytes_before, files_before = resident_bytes(hub.pid), open_files(hub.pid)
            room = asyncio.Semaphore(AT_ONCE)
            sockets = await asyncio.gather(*(_open(url, tokens[number % PEERS], room) for number in range(BROWSERS)))
            each = (resident_bytes(hub.pid) - bytes_before) / BROWSERS
            print(f"{BROWSERS} WebSockets: {each / KIB:.0f} KiB each")  # noqa: T201 - the figure is for people: pytest -rP
            assert each < CONNECTION_BYTES_MAX
            assert open_files(hub.pid) - files_before >= BROWSERS
            await operator.send("*", b"to all")
            told = await asyncio.gather(*(_message(socket) for socket in sockets))
            assert {message["content"] for message in told} == {"to all"}
            await asyncio.gather(*(socket.close() for socket in sockets))
        wait_until(lambda: open_files(hub.pid) <= files_before, "the connections to be gone")

    asyncio.run(scenario())


async def _token(operator: aio.Client, address: str) -> str:
    await operator.call("keys.accept", address=address, public_key=make_key_pair().public)
    return str((await operator.call("token.create", address=address, ttl_ms=600_000))["token"])


async def _open(url: str, token: str, room: asyncio.Semaphore) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}"}
    async with room:
        return await connect(
            url.replace("http", "ws", 1),
            additional_headers=headers,
            subprotocols=["orchestra.v1"],  # type: ignore[list-item]
            compression=None,
            ping_interval=None,
            open_timeout=2 * BOUND_S,
        )


async def _message(socket: ClientConnection) -> dict[str, str]:
    while True:
        message = json.loads(await socket.recv())
        if message["type"] == "message":
            return dict(message)
