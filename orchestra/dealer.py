"""One connection of a client: a CURVE DEALER socket and what libzmq tells of it.

A connection is tried once. libzmq's own reconnecting is switched off, because it hides why a connection failed, never
tries again after a refused key, and would come back under a routing id that the hub may still hold for the dead
connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import zmq
from zmq.utils.monitor import recv_monitor_message

from .errors import ConnectionLost, HubUnreachable, KeyRefused, OrchestraError
from .keys import KeyPair
from .limits import FRAME_BYTES_MAX, HEARTBEAT_S, LEASE_S, ROUTING_ID_BYTES

# Plain integers: enum operations cost several microseconds each on the way of every message.
_POLLIN = int(zmq.POLLIN)
_DONTWAIT = int(zmq.DONTWAIT)
_FRAMES_AT_ONCE = 64  # then the loop's other work has its turn
_LINGER_MS = 1000  # how long a closing client waits for its last records to leave


class Dealer:
    """One connection. `up` is done once both keys were accepted, `down` when it is over, with the reason."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        hub_public_key: str,
        key: KeyPair,
        received: Callable[[list[bytes]], None],
    ) -> None:
        """Begin to connect. `received` is called with the frames of one wake-up, in the loop.

        Raises:
            HubUnreachable: if the endpoint or the hub's key is malformed.
        """
        self.endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self.up: asyncio.Future[None] = self._loop.create_future()
        self.down: asyncio.Future[OrchestraError] = self._loop.create_future()
        self._received = received
        with ExitStack() as undo:  # of a fault in between nothing stays open: the context would wait for it for ever
            self._socket = context.socket(zmq.DEALER)
            undo.callback(self._socket.close, 0)
            try:
                for option, value in (
                    (zmq.ROUTING_ID, os.urandom(ROUTING_ID_BYTES - 1) + b"\x01"),
                    (zmq.CURVE_SERVERKEY, hub_public_key.encode()),
                    (zmq.CURVE_PUBLICKEY, key.public.encode()),
                    (zmq.CURVE_SECRETKEY, key.secret.encode()),
                    (zmq.IPV6, 1),
                    (zmq.RECONNECT_IVL, -1),
                    (zmq.IMMEDIATE, 1),
                    (zmq.MAXMSGSIZE, FRAME_BYTES_MAX),
                    (zmq.HEARTBEAT_IVL, int(HEARTBEAT_S * 1000)),
                    (zmq.HEARTBEAT_TIMEOUT, int(LEASE_S * 1000)),
                    (zmq.SNDHWM, 0),
                    (zmq.LINGER, _LINGER_MS),
                ):
                    self._socket.set(option, value)
                self._monitor = self._socket.get_monitor_socket()
                undo.callback(self._monitor.close, 0)
                self._socket.connect(endpoint)
            except (zmq.ZMQError, ValueError, UnicodeEncodeError) as exc:
                raise HubUnreachable(f"{endpoint} is not an endpoint that can be connected to: {exc}") from exc
            self._descriptors = int(self._socket.get(zmq.FD)), int(self._monitor.get(zmq.FD))
            for descriptor, look in zip(self._descriptors, (self._wake, self._watch), strict=True):
                undo.callback(self._loop.remove_reader, descriptor)
                self._loop.add_reader(descriptor, look)
            undo.pop_all()
        self._loop.call_soon(self._watch)

    def send(self, frames: Iterable[bytes]) -> None:
        """Send, or let it be where the connection is over already: `down` tells, and what matters is said again."""
        if self._socket.closed:
            return
        for frame in frames:
            try:
                self._socket.send(frame, _DONTWAIT)
            except zmq.Again:
                return
        self.rearm()

    def rearm(self) -> None:
        """Look again: libzmq's descriptor is edge-triggered, and a send may have swallowed the edge."""
        if not self._socket.closed and _is_readable(self._socket):
            self._loop.call_soon(self._wake)

    def close(self, *, linger_ms: int = _LINGER_MS) -> None:
        if self._socket.closed:
            return
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger_ms)
        self._end(ConnectionLost("the connection was closed"))

    def _wake(self) -> None:
        if self._socket.closed:
            return
        frames: list[bytes] = []
        while _is_readable(self._socket):
            frames.append(self._socket.recv(_DONTWAIT))
            if len(frames) >= _FRAMES_AT_ONCE:
                self._loop.call_soon(self._wake)
                break
        if frames:
            self._received(frames)

    def look(self) -> None:
        """Look for what an edge of the descriptors should have told; cheap enough to call with each heartbeat."""
        self._watch()
        self._wake()

    def _watch(self) -> None:
        while not self.down.done() and _is_readable(self._monitor):
            event = recv_monitor_message(self._monitor, zmq.DONTWAIT)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                if not self.up.done():
                    self.up.set_result(None)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._end(
                    KeyRefused(f"the hub at {self.endpoint} does not know this key; ask its operator to accept it")
                )
            elif event in (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                lost = f"what answers at {self.endpoint} does not have the hub's key, or too many connect to it at once"
                self._end(HubUnreachable(lost))
            elif event in (zmq.EVENT_CLOSED, zmq.EVENT_DISCONNECTED):
                self._end(
                    ConnectionLost(f"the hub at {self.endpoint} went away")
                    if self.up.done()
                    else no_answer(self.endpoint)
                )

    def _end(self, reason: OrchestraError) -> None:
        if not self.down.done():
            self.down.set_result(reason)


def no_answer(endpoint: str) -> HubUnreachable:
    """Return what is said where nobody listens at `endpoint`."""
    return HubUnreachable(f"no hub answers at {endpoint}; start it there: orchestra up")


def _is_readable(each: zmq.Socket[bytes]) -> bool:
    return bool(zmq.zmq_poll([(each, _POLLIN)], 0))
