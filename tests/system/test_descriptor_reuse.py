"""libzmq names a connection that ended by its descriptor, and the system gives that to the next connection at once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import zmq

from orchestra.hub.router import Arrived, Router
from orchestra.keys import KeyPair, make_key_pair

from .programs import wait_until


class _Peers:
    """A router, and dealers that come and go."""

    def __init__(self) -> None:
        self._hub, self._peer = make_key_pair(), make_key_pair()
        self.router = Router(self._hub, identity_of={self._peer.public: "agent/a"}.get)
        self._endpoint = self.router.bind("tcp://127.0.0.1:0")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def come(self) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        for option, value in _curve(self._hub, self._peer):
            dealer.set(option, value)
        dealer.set(zmq.IPV6, 1)
        dealer.connect(self._endpoint)
        dealer.send(b"x")
        return dealer

    def heard(self) -> Arrived:
        """Return the next frame; nobody asks meanwhile who is gone."""
        found: list[Arrived] = []

        def look() -> list[Arrived]:
            self.router.answer_handshakes()
            found.extend(self.router.drain(1))
            return found

        return wait_until(look, "a frame")[0]

    def close(self) -> None:
        self._context.destroy(0)
        self.router.close()


def _curve(hub: KeyPair, peer: KeyPair) -> list[tuple[int, bytes]]:
    return [
        (zmq.ROUTING_ID, os.urandom(15) + b"\x01"),
        (zmq.CURVE_SERVERKEY, hub.public.encode()),
        (zmq.CURVE_PUBLICKEY, peer.public.encode()),
        (zmq.CURVE_SECRETKEY, peer.secret.encode()),
    ]


@pytest.fixture
def peers() -> Iterator[_Peers]:
    peers = _Peers()
    yield peers
    peers.close()


def test_the_end_of_a_connection_is_not_taken_for_the_end_of_the_next_one_with_its_descriptor(peers: _Peers) -> None:
    for _ in range(10):
        first = peers.come()
        earlier = peers.heard().link
        first.close(0)
        second = peers.come()
        later = peers.heard().link  # the hub hears the new one before it has looked who is gone
        gone: list[bytes] = []
        wait_until(lambda gone=gone: gone.extend(peers.router.gone()) or gone, "the end of the first")
        assert gone == [earlier]
        assert peers.router.send(later, [[14, 0]])
        second.close(0)
        wait_until(lambda gone=gone: gone.extend(peers.router.gone()) or len(gone) == 2, "the end of the second")
        assert gone == [earlier, later]
