"""What talks to a live gateway in tests: WebSocket clients and plain requests."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from orchestra.hub.dialogue import MODERN
from orchestra.hub.settings import GatewaySettings

from . import spoken
from .livehub import LiveHub, soon

GATEWAY = GatewaySettings(port=0)


def token_of(hub: LiveHub, text: str, *, is_url: bool = True, ttl_ms: int = 600_000) -> str:
    """Make a token for a peer, which is enrolled where it is new."""
    if text not in hub.decider.state.roster.peers:
        hub.enrol(text)
    turn = hub.hub._turn()
    peer = hub.decider.state.roster.peers[text]
    made, _, _ = hub.decider.tokens.create(peer, by=text, ttl_ms=ttl_ms, is_url=is_url, given=None, turn=turn)
    hub.hub._end_turn(turn)
    return str(made)


def address_of(hub: LiveHub, query: str = "") -> str:
    return f"{hub.hub.gateway_url.replace('http', 'ws', 1)}/?{query}"


class Browser:
    """One WebSocket, and what came over it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[dict[str, Any]] = []
        self._last = 0

    async def _next(self) -> dict[str, Any]:
        message = json.loads(await soon(self.socket.recv()))
        spoken.check(message)
        return dict(message)

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Return the next message of this type with these fields; the others stay in `told`."""
        while True:
            message = await self._next()
            if message["type"] == kind and all(message.get(name) == value for name, value in wanted.items()):
                return message
            self.told.append(message)

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Say something, and return what it is answered."""
        self._last += 1
        await self.say(**message, id=f"n{self._last}")
        while True:
            answer = await self._next()
            if answer.get("id") == f"n{self._last}":
                return answer
            self.told.append(answer)

    async def call(self, method: str, **params: Any) -> Any:
        answer = await self.ask(type="call", method=method, params=params)
        return answer["result"] if answer["type"] == "reply" else answer["code"]


@asynccontextmanager
async def browser(
    hub: LiveHub, text: str, query: str = "", *, is_modern: bool = True, **options: Any
) -> AsyncIterator[Browser]:
    """Connect as the peer `text`; one of `orchestra.v1` has heard its welcome."""
    if is_modern:
        options["subprotocols"] = [MODERN]
    token = token_of(hub, text, is_url=False)
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address_of(hub, query), additional_headers=headers, **options) as socket:
        found = Browser(socket)
        if is_modern:
            await found.hear("welcome", address=text)
        yield found


async def get(hub: LiveHub, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send one request as it is written; return status, headers and body."""
    host, port = hub.hub.gateway_url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    given = {"Host": f"{host}:{port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
    answer = await soon(reader.read())
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body


@asynccontextmanager
async def unread(hub: LiveHub, query: str) -> AsyncIterator[None]:
    """Open a WebSocket whose client reads nothing at all."""
    host, port = hub.hub.gateway_url.removeprefix("http://").rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel would read megabytes for it
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    _, writer = await asyncio.open_connection(sock=connection, limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(
        f"GET /?{query} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    try:
        yield
    finally:
        writer.transport.abort()
