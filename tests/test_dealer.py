"""One connection of a client, against a bare ROUTER."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import zmq

from orchestra.dealer import Dealer
from orchestra.errors import HubUnreachable
from orchestra.keys import make_key_pair

BOUND_S = 5.0


@asynccontextmanager
async def _connected(received: list[bytes]) -> AsyncIterator[tuple[Dealer, zmq.Socket[bytes], bytes]]:
    """Give a connection, the ROUTER at its other end, and its routing id."""
    hub, key = make_key_pair(), make_key_pair()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger, router.rcvtimeo = 0, int(BOUND_S * 1000)
    router.set(zmq.CURVE_SERVER, 1)
    router.set(zmq.CURVE_SECRETKEY, hub.secret.encode())
    port = router.bind_to_random_port("tcp://127.0.0.1")
    dealer = Dealer(
        context,
        f"tcp://127.0.0.1:{port}",
        hub_public_key=hub.public,
        key=key,
        received=lambda frames: received.extend(frames),
    )
    try:
        await asyncio.wait_for(dealer.up, BOUND_S)
        dealer.send([b"hello"])
        link, _ = await asyncio.to_thread(router.recv_multipart)
        yield dealer, router, link
    finally:
        dealer.close(linger_ms=0)
        router.close(0)
        context.term()


def test_what_came_while_a_send_swallowed_the_edge_of_the_descriptor_is_read_all_the_same() -> None:
    async def scenario() -> None:
        received: list[bytes] = []
        async with _connected(received) as (dealer, router, link):
            # As if the edge were swallowed: nobody is told any more that something came.
            asyncio.get_running_loop().remove_reader(dealer._descriptors[0])
            router.send_multipart([link, b"an answer"])
            assert await asyncio.to_thread(dealer._socket.poll, int(BOUND_S * 1000))
            assert received == []
            dealer.send([b"more"])
            async with asyncio.timeout(BOUND_S):
                while not received:  # noqa: ASYNC110 - one round of the loop is enough, and none is told of
                    await asyncio.sleep(0)
            assert received == [b"an answer"]

    asyncio.run(scenario())


def test_a_look_with_the_heartbeat_finds_what_no_send_found() -> None:
    async def scenario() -> None:
        received: list[bytes] = []
        async with _connected(received) as (dealer, router, link):
            asyncio.get_running_loop().remove_reader(dealer._descriptors[0])
            router.send_multipart([link, b"an answer"])
            assert await asyncio.to_thread(dealer._socket.poll, int(BOUND_S * 1000))
            dealer.look()
            assert received == [b"an answer"]

    asyncio.run(scenario())


def test_more_frames_than_one_turn_takes_come_in_order_and_none_is_left() -> None:
    async def scenario() -> None:
        received: list[bytes] = []
        async with _connected(received) as (_, router, link):
            sent = [str(number).encode() for number in range(1000)]
            for frame in sent:
                router.send_multipart([link, frame])
            async with asyncio.timeout(BOUND_S):
                while len(received) < len(sent):  # noqa: ASYNC110 - a list has no event
                    await asyncio.sleep(0.001)
            assert received == sent

    asyncio.run(scenario())


def _dealer(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> Dealer:
    key = make_key_pair()
    return Dealer(context, endpoint, hub_public_key=key.public, key=key, received=lambda frames: None)


def _assert_ends(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(BOUND_S)
    assert not ending.is_alive(), "a socket is open"


def test_an_endpoint_that_is_none_is_told_and_leaves_nothing_that_the_context_waits_for() -> None:
    async def scenario() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with pytest.raises(HubUnreachable, match="is not an endpoint"):
            _dealer(context, "tcp://127.0.0.1:none")
        _assert_ends(context)

    asyncio.run(scenario())


@pytest.mark.parametrize("readers", [0, 1])
def test_a_connection_that_can_not_be_watched_leaves_nothing_either(
    readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        added: list[int] = []

        def add(descriptor: int, callback: object) -> None:
            if len(added) == readers:
                raise OSError("no more descriptors can be watched")
            added.append(descriptor)
            watch(descriptor, callback)

        watch = loop.add_reader
        monkeypatch.setattr(loop, "add_reader", add)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with pytest.raises(OSError, match="no more"):
            _dealer(context, "tcp://127.0.0.1:9")
        _assert_ends(context)
        assert not any(map(loop.remove_reader, added)), "one is still watched"

    asyncio.run(scenario())
