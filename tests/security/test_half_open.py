"""Connections that begin and do not go on: half-open handshakes, slow ones, and proved keys that do nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.hub import router as router_module
from orchestra.hub import service as service_module
from orchestra.limits import FRAME_BYTES_MAX, KIB, LOBBY_PER_SOURCE_MAX, MIB
from orchestra.state import HubCard
from orchestra.wire import PING

from ..hub.livehub import LiveHub, live_hub, raw_peer, run, soon, trickle, until
from ..system.programs import Place, peer, resident_bytes

STRANGERS = 300
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
"""What a ZMTP 3.1 client with CURVE says first."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def _lobby(hub: LiveHub) -> int:
    return len(hub.router._lobby)


@pytest.mark.parametrize(
    "said",
    [b"", GREETING[:11], GREETING, GREETING + b"\x06" + bytes(7) + b"\xff" + bytes(50)],
    ids=["nothing", "half a greeting", "a greeting", "half a command"],
)
def test_who_fills_the_lobby_is_bounded_and_peers_come_in_all_the_same(
    tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/inside") as inside:
            with ExitStack() as strangers:
                for _ in range(STRANGERS):
                    stranger = strangers.enter_context(socket.create_connection(hub.host_and_port))
                    stranger.sendall(said)
                await until(
                    lambda: hub.count("lobby_full") + hub.count("crowded_out") == STRANGERS - LOBBY_PER_SOURCE_MAX
                )
                assert _lobby(hub) <= LOBBY_PER_SOURCE_MAX
                await soon(inside.send("matrix/inside", "who is in stays in"))
                card = HubCard((hub.tcp,), hub.public_key)
                late = aio.Client(card=lambda: card, key=hub.enrol("matrix/late"), address=parse_peer("matrix/late"))
                async with await soon(late.open(patience_s=None)):  # it tries again until the first make room
                    await soon(late.send("matrix/inside", "who belongs comes in"))
                assert hub.count("crowded_out") > 0
                await until(lambda: "came and proved no key were closed" in caplog.text, "the hub to say so")
                assert set(hub.decider.state.roster.sessions.values()) == {hub.session("matrix/inside")}

    run(scenario())


def test_what_strangers_make_the_hub_hold_is_bounded(place: Place) -> None:
    """Each says that a large command follows, and sends as much of it as it can."""
    hub = place.hub()
    host, port = "127.0.0.1", int(hub.stdout.rsplit(":", 1)[1])
    size = FRAME_BYTES_MAX - KIB
    flood = GREETING + b"\x06" + size.to_bytes(8, "big") + bytes(size - 1)

    async def scenario() -> None:
        async with await peer(place, "matrix/m") as matrix:
            before_bytes = resident_bytes(hub.pid)
            with ExitStack() as strangers:
                for _ in range(STRANGERS):
                    stranger = strangers.enter_context(socket.create_connection((host, port)))
                    stranger.settimeout(0.1)  # some are not read
                    with suppress(ConnectionError, TimeoutError):
                        stranger.sendall(flood)
                grown = resident_bytes(hub.pid) - before_bytes
                assert grown < 1.5 * LOBBY_PER_SOURCE_MAX * FRAME_BYTES_MAX, f"the hub grew by {grown / MIB:.0f} MiB"
                await soon(matrix.send("matrix/m", "others are served"))

    asyncio.run(scenario())


@pytest.mark.parametrize("head", [b"", GREETING], ids=["the greeting", "the first command"])
def test_a_handshake_a_byte_at_a_time_ends_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(router_module, "HANDSHAKE_MS", 300)

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            rest = (GREETING if not head else b"") + b"\x06" + bytes(6) + b"\xff\xff" + bytes(65_000)
            await trickle(hub.host_and_port, head, rest)

    run(scenario())


def test_a_proved_key_without_a_session_keeps_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one accepted key could take every file that the hub may open."""
    monkeypatch.setattr(service_module, "SESSIONLESS_S", 0.3)
    monkeypatch.setattr("orchestra.hub.lobby.SESSIONLESS_S", 0.3)

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            key = hub.enrol("agent/a")
            async with (
                raw_peer(hub, "agent/a", key=key, RECONNECT_IVL=-1) as silent,
                raw_peer(hub, "agent/a", key=key, RECONNECT_IVL=-1) as refused,
                raw_peer(hub, "agent/a", key=key, RECONNECT_IVL=-1) as short,
                hub.connect("matrix/m") as good,
            ):
                await refused.say([PING, 1])
                assert (await refused.next())[3] == "no_session"
                for each in (silent, refused, short):
                    await each.event(int(zmq.EVENT_DISCONNECTED))
                await soon(good.send("agent/a", "who has a session stays"))
                assert _lobby(hub) == 0

    run(scenario())
