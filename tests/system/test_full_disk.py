"""A disk that is full while the hub runs: a limit on the size of files plays its part."""

from __future__ import annotations

import asyncio
import resource

import pytest

from orchestra import aio
from orchestra.errors import OrchestraError, StorageFault

from .programs import BOUND_S, Place, is_alive

ROOM_BYTES = 1_500_000
SENDS = 1000

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="room can only be made later on Linux")


def test_a_hub_without_room_says_so_and_goes_on_by_itself_once_there_is_some(place: Place) -> None:
    hub = place.hub(before=lambda: _limit(ROOM_BYTES))

    async def scenario() -> None:
        told: asyncio.Future[OrchestraError] = asyncio.get_running_loop().create_future()
        async with aio.connect(state=place.state) as client:
            me = client.address
            client.on_lost = lambda reason: None if told.done() else told.set_result(reason)
            sending = asyncio.create_task(_send_all(client, me))
            assert isinstance(await asyncio.wait_for(told, BOUND_S), StorageFault)
            assert not sending.done()

            ended = await asyncio.to_thread(place.run, "send", me, "one more")
            assert "hub.db" in ended.assert_is_one_sentence(75)
            assert is_alive(hub.pid)

            resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            answered = await asyncio.wait_for(sending, BOUND_S)
            stored = await _inbox(client)
            assert [stored[seq] for seq in answered] == list(range(SENDS))
            assert len(stored) == SENDS, "something is there that nobody was told of"
            assert (await client.call("status"))["counts"]["turns_undone"] >= 1

    asyncio.run(scenario())
    assert "Traceback" not in hub.stderr
    assert "nothing of the turn was kept" in hub.stderr


def test_what_was_stored_before_the_disk_was_full_is_there_after_a_kill_and_a_restart(place: Place) -> None:
    hub = place.hub(before=lambda: _limit(ROOM_BYTES))
    answered: dict[int, int] = {}

    async def fill() -> None:
        full = asyncio.Event()
        async with aio.connect(state=place.state) as client:
            client.on_lost = lambda reason: full.set()
            sending = asyncio.create_task(_send_all(client, client.address, answered))
            await asyncio.wait_for(full.wait(), BOUND_S)
            sending.cancel()

    async def look() -> dict[int, int]:
        async with aio.connect(state=place.state) as client:
            return await _inbox(client)

    asyncio.run(fill())
    hub.kill()
    place.hub()
    stored = asyncio.run(look())
    assert answered
    assert {number: stored.get(seq) for number, seq in answered.items()} == {number: number for number in answered}


async def _send_all(client: aio.Client, to: str, answered: dict[int, int] | None = None) -> list[int]:
    """Send one after the other, so that the disk is full between two that were answered; return their seqs."""
    seqs = []
    for number in range(SENDS):
        seqs.append(await client.send(to, str(number).encode() + b" " * 4000))
        if answered is not None:
            answered[number] = seqs[-1]
    return seqs


async def _inbox(client: aio.Client) -> dict[int, int]:
    """Return what waits for `client`, as seq → number."""
    found: dict[int, int] = {}
    while page := await client.inbox(count=1000, after=max(found, default=0)):
        found |= {message.seq: int(message.body) for message in page}
    return found


def _limit(room_bytes: int) -> None:
    """Let this process write no file beyond `room_bytes`; Python ignores the signal, so a write just fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, resource.RLIM_INFINITY))
