"""A peer whose key is accepted and who sends what it likes, beside two who work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from orchestra import aio, wire
from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.errors import KeyRefused
from orchestra.keys import make_key_pair
from orchestra.limits import BODY_BYTES_MAX, FRAME_BYTES_MAX
from orchestra.state import StateFolder

from ..system.programs import BOUND_S, Place, RawPeer, is_alive, peer, resident_bytes

MESSAGES = 2000
FLOOD = 3000
MIB = 2**20
GROWTH_BYTES_MAX = 64 * MIB
HELLO = [wire.HELLO, 1, 1, "", b"hostile!", 4096, 0, [], [], {}]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("hostile"))
    place.hub()
    yield place
    place.close()


@pytest.fixture
def hostile(place: Place) -> Iterator[RawPeer]:
    folder = StateFolder(place.state)
    key = asyncio.run(enrol_here(folder, parse_peer("agent/hostile")))
    hostile = RawPeer(folder.read_card(), key)
    yield hostile
    hostile.close()


def test_two_peers_do_not_notice_a_third_that_sends_garbage_and_the_hub_stays_as_it_is(
    place: Place, hostile: RawPeer
) -> None:
    hub = place.programs[0]
    before_bytes = resident_bytes(hub.pid)

    async def exchange() -> list[str]:
        lost: list[str] = []
        async with await peer(place, "matrix/one") as one, await peer(place, "matrix/two") as two:
            for client in (one, two):
                client.on_lost = lambda reason: lost.append(str(reason))
            attack = asyncio.create_task(asyncio.to_thread(_attack, hostile, random.Random(2)))
            sent = 0
            messages = two.messages()
            while sent < MESSAGES or not attack.done():
                await asyncio.wait_for(one.send("matrix/two", str(sent)), BOUND_S)
                message = await asyncio.wait_for(anext(messages), BOUND_S)
                assert message.text == str(sent)
                sent += 1
            await attack
            status = await one.call("status")
        assert status["pid"] == hub.pid
        assert status["counts"]["malformed"] >= FLOOD
        return lost

    assert asyncio.run(exchange()) == []
    assert is_alive(hub.pid)
    assert "Traceback" not in hub.stderr
    grown = resident_bytes(hub.pid) - before_bytes
    assert grown < GROWTH_BYTES_MAX, f"the hub grew by {grown / MIB:.0f} MiB"


def _attack(hostile: RawPeer, chance: random.Random) -> None:
    whole = msgpack.packb([HELLO, [wire.SEND, 1, "matrix/two", 0, b"x" * 100, None]])
    for number in range(FLOOD):
        hostile.socket.send(whole[: chance.randrange(1, len(whole))])
        hostile.socket.send(chance.randbytes(chance.randrange(1, 300)))
        if number % 500 == 0:
            hostile.say([99])  # answered after all the others
            while hostile.code() != "unknown_verb":
                pass
            hostile.wait_hung_up(after=bytes(FRAME_BYTES_MAX + 1))
            hostile.again()
    for _ in range(50):
        hostile.say(*([[wire.SEND, 1, "matrix/two", 0, b"x" * 20_000, None]] * 50))  # before HELLO
    for _ in range(20):
        hostile.again()
        hostile.say([wire.HELLO, 90, 99, "", b"hostile!", 0, 0, [], [], {}])
        assert hostile.code() == "version_mismatch"


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ([99], "unknown_verb"),
        (["HELLO"], "unknown_verb"),
        ([wire.SEND, 1, "matrix/x"], "malformed"),
        ([wire.SEND, -1, "matrix/x", 0, b"", None], "malformed"),
        ([wire.SEND, 1, "matrix/x", 9, b"", None], "malformed"),
        ([wire.SEND, 1, "matrix/../../etc", 0, b"", None], "bad_address"),
        ([wire.SEND, 1, "matrix/x\x1b[2J", 0, b"", None], "bad_address"),
        ([wire.SEND, 1, "matrix/", 0, b"", None], "bad_address"),
        ([wire.SEND, 1, "matrix/nobody", 0, b"", None], "unknown_recipient"),
        ([wire.SEND, 1, "*", 0, b"", None], "not_allowed"),
        ([wire.SEND, 1, "queue/default", wire.TASK, b"", None], "not_allowed"),
        ([wire.SEND, 1, "agent/hostile", 0, b"", {"color": 1}], "bad_option"),
        ([wire.SEND, 1, "agent/hostile", 0, b"x" * (BODY_BYTES_MAX + 1), None], "too_large"),
        ([wire.RESULT, 1, 7, 7, "completed", {}, b""], "stale_lease"),
        ([wire.NAK, 7, 7, "", "", 0], "stale_lease"),
        ([wire.CALL, 1, "shutdown", {}], "unknown_method"),
        ([wire.CALL, 1, "keys.accept", {"address": "agent/evil", "public_key": "x" * 40}], "not_allowed"),
        ([wire.CALL, 1, "task.get", {"seq": "1; DROP TABLE message"}], "bad_option"),
        (HELLO, "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_record_of_a_session_is_answered_with_a_code_and_the_session_goes_on(
    hostile: RawPeer, record: list[Any], code: str
) -> None:
    hostile.say(HELLO)
    hostile.hears(wire.WELCOME)
    hostile.say(record)
    assert hostile.code() == code
    hostile.say([wire.PING, 42])
    assert hostile.hears(wire.PONG) == [wire.PONG, 42]


def test_who_claims_another_name_is_refused(hostile: RawPeer) -> None:
    hostile.say([wire.HELLO, 1, 1, "operator/root", b"hostile!", 0, 0, [], [], {}])
    assert hostile.code() == "wrong_name"


def test_nothing_is_taken_before_hello(hostile: RawPeer) -> None:
    hostile.say([wire.SEND, 1, "agent/hostile", 0, b"", None])
    assert hostile.code() == "no_session"


def test_a_message_of_several_frames_is_dropped_and_the_next_is_read(hostile: RawPeer) -> None:
    hostile.say(HELLO)
    hostile.hears(wire.WELCOME)
    hostile.socket.send_multipart([msgpack.packb([[wire.PING, 1]]), b"agent/other", msgpack.packb([[wire.PING, 2]])])
    hostile.say([wire.PING, 3])
    assert hostile.hears(wire.PONG) == [wire.PONG, 3]


def test_a_key_the_hub_does_not_know_is_refused_and_its_client_says_so(place: Place) -> None:
    async def connect() -> None:
        await aio.connect(state=place.state, key=make_key_pair(), patience_s=None)

    with pytest.raises(KeyRefused, match="does not know this key"):
        asyncio.run(connect())
