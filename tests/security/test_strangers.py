"""Who has no key that the hub knows gets nowhere, and is in nobody's way."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from orchestra import aio, wire
from orchestra.address import parse_peer
from orchestra.errors import HubUnreachable, KeyRefused
from orchestra.hub import router as router_module
from orchestra.keys import KeyPair, make_key_pair
from orchestra.state import HubCard
from orchestra.wire import PING

from ..hub.livehub import live_hub, raw_peer, run, soon

_REFUSED = {
    int(event)
    for event in (
        zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_DISCONNECTED,
    )
}


def test_a_key_the_hub_does_not_know_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            for endpoint in hub.hub.endpoints:
                card = HubCard((endpoint,), hub.public_key)
                client = aio.Client(card=lambda card=card: card, key=make_key_pair(), address=parse_peer("agent/a"))
                with pytest.raises(KeyRefused, match="does not know this key; ask its operator to accept it"):
                    await soon(client.open(patience_s=None))
            assert hub.count("keys_refused") == 2
            assert hub.decider.state.roster.sessions == {}

    run(scenario())


def test_without_its_handshake_handler_the_hub_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CURVE alone would accept any key: the hub must fail closed."""
    monkeypatch.setattr(router_module, "HANDSHAKE_MS", 300)  # who asked the handler while it closed waits for so long

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            known = hub.enrol("agent/a")
            router = hub.router
            asyncio.get_running_loop().remove_reader(router.handshake_descriptor)
            router.answer_handshakes = lambda: None
            router._zap.close(0)
            router._zap = router._context.socket(zmq.REP)  # for the hub to close
            for key in (make_key_pair(), known):
                async with raw_peer(hub, "agent/a", key=key) as peer:
                    await peer.say([PING, 1])
                    assert await peer.event(*_REFUSED, int(zmq.EVENT_HANDSHAKE_SUCCEEDED)) in _REFUSED
            assert not router.has_input()

    run(scenario())


def test_a_server_that_does_not_have_the_hubs_key_is_not_believed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            key = hub.enrol("agent/a")
            card = HubCard((hub.tcp,), make_key_pair().public)
            client = aio.Client(card=lambda: card, key=key)
            with pytest.raises(HubUnreachable):
                await soon(client.open(patience_s=0))

    run(scenario())


def test_connections_that_say_nothing_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "HANDSHAKE_MS", 100)

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            silent = [await asyncio.open_connection(*hub.host_and_port) for _ in range(50)]
            async with hub.connect("matrix/m") as matrix:
                await soon(matrix.send("matrix/m", "others are served"))
            for reader, writer in silent:
                await soon(reader.read())  # to the end: the hub's greeting, then nothing
                writer.close()

    run(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_noise_on_the_port_harms_nobody(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        async with live_hub(tmp_path) as hub, hub.connect("matrix/m") as matrix:
            for _ in range(30):
                _, writer = await asyncio.open_connection(*hub.host_and_port)
                greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
                writer.write(chance.choice((b"", greeting, greeting[:11])) + chance.randbytes(chance.randint(0, 400)))
                writer.close()
            await soon(matrix.send("matrix/m", "others are served"))
            assert set(hub.decider.state.roster.sessions.values()) == {hub.session("matrix/m")}

    run(scenario())


def test_who_knows_the_public_half_of_a_key_alone_is_not_let_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            known = hub.enrol("operator/o")
            copied = KeyPair(known.public, make_key_pair().secret)
            async with raw_peer(hub, "operator/o", key=copied, RECONNECT_IVL=-1) as thief:
                assert await thief.event(*_REFUSED, int(zmq.EVENT_HANDSHAKE_SUCCEEDED)) in _REFUSED
            assert hub.decider.state.roster.sessions == {}

    run(scenario())


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("mechanism", ["null", "plain"])
def test_who_does_not_speak_curve_as_a_client_is_not_let_in(tmp_path: Path, transport: str, mechanism: str) -> None:
    """There is no downgrade: the greeting of ZMTP names one mechanism, and the hub takes CURVE alone."""

    async def scenario() -> None:
        context = zmq.asyncio.Context()
        async with live_hub(tmp_path) as hub:
            socket = context.socket(zmq.DEALER)
            socket.set(zmq.ROUTING_ID, os.urandom(16))
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.IPV6, 1)
            socket.set(zmq.RECONNECT_IVL, -1)
            if mechanism == "plain":
                socket.set(zmq.PLAIN_USERNAME, b"operator/o")
                socket.set(zmq.PLAIN_PASSWORD, b"x")
            monitor = socket.get_monitor_socket()
            socket.connect(next(each for each in hub.hub.endpoints if each.startswith(transport)))
            with suppress(zmq.Again):  # it may be refused before it could say anything
                await soon(socket.send(wire.pack([[PING, 1]]), zmq.DONTWAIT))
            seen = 0
            while seen not in _REFUSED:
                seen = int.from_bytes((await soon(monitor.recv_multipart()))[0][:2], "little")
                assert seen != zmq.EVENT_HANDSHAKE_SUCCEEDED
            assert not hub.router.has_input()
            socket.disable_monitor()
            monitor.close(0)
            socket.close(0)
        context.term()

    run(scenario())
