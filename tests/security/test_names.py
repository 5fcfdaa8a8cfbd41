"""Nobody is taken for another: a name and what belongs to it follow from the key alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from orchestra import wire
from orchestra.errors import Replaced
from orchestra.wire import DELIVER, OK, PING, SEND

from ..hub.livehub import live_hub, raw_peer, run, soon, until


def test_a_key_speaks_for_its_own_name_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            hub.enrol("operator/o")
            async with raw_peer(hub, "agent/a") as peer:
                await peer.say([wire.HELLO, 1, 1, "operator/o", peer.epoch, 0, 0, [], [], {}])
                assert (await peer.next())[3] == "wrong_name"

    run(scenario())


def test_a_smuggled_frame_is_dropped_and_the_victim_unharmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            raw_peer(hub, "operator/victim") as victim,
            raw_peer(hub, "agent/evil") as evil,
        ):
            await victim.hello(credit=10)
            await evil.hello()
            forged = wire.pack([[SEND, 1, "operator/victim", 0, b"forged", None]])
            for frames in (
                (wire.pack([[PING, 1]]), victim.routing_id, forged),
                (victim.routing_id, forged),
                (b"", victim.routing_id, forged, victim.routing_id, forged),
            ):
                await evil.say_frames(*frames)
            assert await evil.hears() == []
            assert await victim.hears() == []
            assert hub.count("smuggled") == 3
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(0,)]
            await victim.say([SEND, 1, "operator/victim", 0, b"true", None])
            assert {record[0] for record in await victim.hears()} == {OK, DELIVER}

    run(scenario())


def test_of_two_connections_with_one_routing_id_the_first_keeps_working(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, raw_peer(hub, "matrix/victim") as victim:
            await victim.hello(credit=10)
            async with raw_peer(hub, "agent/thief", routing_id=victim.routing_id) as thief:
                await thief.say(
                    [wire.HELLO, 1, 1, "", thief.epoch, 100, 0, [], [], {}], [SEND, 1, "matrix/victim", 0, b"x", None]
                )
                await thief.event(int(zmq.EVENT_HANDSHAKE_SUCCEEDED))
                async with hub.connect("operator/o") as operator:
                    await soon(operator.send("matrix/victim", "secret"))
                (delivery,) = await victim.hears()
                assert delivery[9] == b"secret"
                assert not await thief.socket.poll(0)
                assert list(hub.store.rows("SELECT count(*) FROM message")) == [(1,)]

    run(scenario())


@pytest.mark.parametrize("routing_id", [b"", b"a", b"agent/a", b"\x01" * 15])
def test_a_routing_id_that_could_be_guessed_gets_no_session(tmp_path: Path, routing_id: bytes) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, raw_peer(hub, "agent/a", routing_id=routing_id) as peer:
            await peer.say([wire.HELLO, 1, 1, "", peer.epoch, 0, 0, [], [], {}])
            await until(lambda: hub.count("short_routing_id") == 1)
            assert hub.decider.state.roster.sessions == {}
            assert not await peer.socket.poll(0)
            async with hub.connect("matrix/m") as matrix:
                await soon(matrix.send("agent/a", "others are served"))

    run(scenario())


def test_a_newer_process_of_an_agent_stops_the_older_with_a_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            key = hub.enrol("agent/a")
            async with (
                hub.connect("agent/a", key=key, slots=1) as old,
                hub.connect("agent/a", key=key, slots=1) as new,
            ):
                assert isinstance(await soon(old.wait_over()), Replaced)
                with pytest.raises(Replaced, match="another process works as agent/a"):
                    await soon(old.send("agent/a", "x"))
                await soon(new.send("agent/a", "x"))

    run(scenario())


def test_a_send_repeated_after_a_reconnect_stores_no_second_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            key = hub.enrol("matrix/m")
            records = [[SEND, n, "matrix/m", 0, b"%d" % n, None] for n in range(1, 51)]
            async with raw_peer(hub, "matrix/m", key=key) as first:
                await first.hello()
                await first.say(*records)
                assert await first.hears() == [[OK, 1, 1, 50]]
                epoch = first.epoch
            async with raw_peer(hub, "matrix/m", key=key) as second:
                second.epoch = epoch
                await second.hello()
                await second.say(*records, [SEND, 51, "matrix/m", 0, b"new", None])
                heard = await second.hears()
                assert sorted(record[1:] for record in heard) == [[n, n, 1] for n in range(1, 52)]
            assert list(hub.store.rows("SELECT count(*), count(DISTINCT body) FROM message")) == [(51, 51)]

    run(scenario())
