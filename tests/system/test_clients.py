"""What the application of a client is told when its conversation is over."""

from __future__ import annotations

import asyncio

import pytest

from orchestra import aio
from orchestra.errors import BadAddress, ConnectionLost, Replaced

from .programs import BOUND_S, Place, peer


def test_a_reader_is_told_that_another_process_took_its_name(place: Place) -> None:
    place.hub()

    async def scenario() -> None:
        async with await peer(place, "agent/twin", slots=1) as first:
            reading = asyncio.ensure_future(anext(first.messages()))
            async with await peer(place, "agent/twin", slots=1):
                with pytest.raises(Replaced):
                    await asyncio.wait_for(reading, BOUND_S)

    asyncio.run(scenario())


def test_readers_and_senders_that_wait_are_told_that_their_client_was_closed(place: Place) -> None:
    hub = place.hub()

    async def scenario() -> None:
        async with await peer(place, "matrix/one") as client:
            reading = asyncio.ensure_future(anext(client.messages()))
            hub.kill()
            # More than may be open.
            sending = [asyncio.ensure_future(client.send("matrix/one", "x")) for _ in range(5000)]
            await asyncio.wait({reading}, timeout=0.05)
        for waiting in (reading, *sending):
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(waiting, BOUND_S)

    asyncio.run(scenario())


def test_an_address_of_any_length_is_refused_and_not_waited_for(place: Place) -> None:
    place.hub()

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            for asking in (client.send, client.request):
                with pytest.raises(BadAddress):
                    await asyncio.wait_for(asking("matrix/" + "x" * 50_000, "hello"), BOUND_S)  # type: ignore[operator]

    asyncio.run(scenario())
