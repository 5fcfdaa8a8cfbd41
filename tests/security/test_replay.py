"""Who sits on the line: bytes that are said again, changed, or sent to somebody else achieve nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from orchestra.wire import MESSAGE, OK, SEND

from ..hub.livehub import BOUND_S, LiveHub, live_hub, raw_peer, run, soon, until

SENDS = [[SEND, n, "matrix/m", MESSAGE, b"%d" % n, None] for n in range(1, 6)]


class Tap:
    """A line between a peer and the hub on which somebody listens, and can put bytes of his own."""

    def __init__(self, hub: LiveHub) -> None:
        self.heard: list[bytes] = []
        """What the peer said, piece by piece."""
        self.endpoint = ""
        self.ended = asyncio.Event()
        self._target = hub.host_and_port
        self._to_hub: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_hub, self._to_hub = await asyncio.open_connection(*self._target)
        back = asyncio.create_task(self._back(from_hub, writer))
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                self.heard.append(piece)
                self._to_hub.write(piece)
        self._to_hub.close()
        await back
        writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                writer.write(piece)
        writer.close()
        self.ended.set()

    def say(self, piece: bytes) -> None:
        """Put bytes on the line, as if the peer had said them."""
        assert self._to_hub is not None
        self._to_hub.write(piece)


@asynccontextmanager
async def _tapped(hub: LiveHub) -> AsyncIterator[Tap]:
    tap = Tap(hub)
    server = await asyncio.start_server(tap.serve, "127.0.0.1", 0)
    tap.endpoint = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tap
    finally:
        server.close()
        await server.wait_closed()


def _count(hub: LiveHub) -> int:
    ((count,),) = hub.store.rows("SELECT count(*) FROM message")
    return int(count)


def test_a_batch_that_is_said_twice_is_stored_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, raw_peer(hub, "matrix/m") as peer:
            await peer.hello()
            for _ in range(3):
                await peer.say(*SENDS)
                heard = await peer.hears()
                assert sorted({first + i: seq + i for _, first, seq, count in heard for i in range(count)}.items()) == [
                    (n, n) for n in range(1, 6)
                ]
            assert _count(hub) == 5

    run(scenario())


def test_a_recorded_connection_says_nothing_the_second_time(tmp_path: Path) -> None:
    """CURVE's keys are new for each connection: what was recorded is noise to the next."""

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, _tapped(hub) as tap:
            async with raw_peer(hub, "matrix/m", endpoint=tap.endpoint) as peer:
                await peer.hello()
                await peer.say(*SENDS)
                assert await peer.hears() == [[OK, 1, 1, 5]]
            await until(lambda: not hub.decider.state.roster.sessions)
            reader, writer = await asyncio.open_connection(*hub.host_and_port)
            writer.write(b"".join(tap.heard))
            answered = await soon(reader.read())  # until the hub hangs up
            assert b"READY" not in answered
            writer.close()
            assert hub.decider.state.roster.sessions == {}
            assert _count(hub) == 5

    run(scenario())


@pytest.mark.parametrize("is_changed", [False, True], ids=["repeated", "changed"])
def test_what_is_put_on_the_line_ends_the_connection_and_is_not_taken(tmp_path: Path, is_changed: bool) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, _tapped(hub) as tap:
            async with raw_peer(hub, "matrix/m", endpoint=tap.endpoint, RECONNECT_IVL=-1) as peer:
                await peer.hello()
                said_before = len(tap.heard)
                await peer.say(SENDS[0])
                assert (await peer.next())[:2] == [OK, 1]
                said = b"".join(tap.heard[said_before:])
                tap.say(said[:-1] + bytes([said[-1] ^ 1]) if is_changed else said)
                async with asyncio.timeout(BOUND_S):
                    await tap.ended.wait()
            await until(lambda: not hub.decider.state.roster.sessions)
            assert _count(hub) == 1

    run(scenario())


def test_nothing_of_what_is_said_can_be_read_on_the_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            _tapped(hub) as tap,
            raw_peer(hub, "matrix/m", endpoint=tap.endpoint) as peer,
        ):
            await peer.hello()
            await peer.say([SEND, 1, "matrix/m", MESSAGE, b"a secret of some length", None])
            await peer.hears()
            line = b"".join(tap.heard)
            assert len(line) > 500
            for part in (b"a secret", b"matrix/m", peer.routing_id):
                assert part not in line

    run(scenario())
