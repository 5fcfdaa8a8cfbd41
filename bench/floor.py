"""The floor: what the three hops must cost whoever writes them, with the same ingredients and nothing else.

Client DEALER → ROUTER → agent DEALER → ROUTER → client DEALER, in three processes, CURVE on both sides, libzmq through
pyzmq with blocking receives and no event loop. The hub inserts one row of 256 bytes per hop and commits it before it
passes the body on: two commits a round trip, as in ours. WAL, `synchronous` FULL or NORMAL.

What it leaves out is what the ratio pays for: it knows no peers (two routing ids are all there is), checks nothing, has
no ZAP handler (CURVE encrypts, but any client key is let in: `zap_domain` is unset), and no leases, acknowledgements,
queues or states.
"""

from __future__ import annotations

import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import zmq
from rig import BODY_BYTES, DURABILITIES, Durability, Rig, Transport

from orchestra.keys import KeyPair, make_key_pair

_CLIENT: Final = b"client"
_AGENT: Final = b"agent"
_BODY: Final = b"x" * BODY_BYTES
_SYNCHRONOUS: Final[dict[Durability, str]] = {"full": "FULL", "fast": "NORMAL"}
assert _SYNCHRONOUS.keys() == set(DURABILITIES)
_SILENCE_MS: Final = 20_000  # a floor that does not answer by then has lost a process


class Floor:
    """The floor's client, and the two processes behind it."""

    def __init__(self, rig: Rig, *, durability: Durability, transport: Transport) -> None:
        folder = rig.make_folder()
        key = make_key_pair()
        asked = f"ipc://{folder / 'hub.sock'}" if transport == "ipc" else "tcp://127.0.0.1:*"
        hub = rig.start(f"floor-hub-{durability}-{transport}", run_hub, folder, key, asked, durability)
        endpoint = str(hub.hear())
        agent = rig.start(f"floor-agent-{durability}-{transport}", run_agent, endpoint, key.public)
        agent.hear()
        self._children = hub, agent
        self._rig = rig
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _dealer(self._context, endpoint, _CLIENT, key.public)
        self._socket.set(zmq.RCVTIMEO, _SILENCE_MS)
        self._socket.set(zmq.SNDTIMEO, _SILENCE_MS)

    def rounds(self, count: int) -> list[float]:
        """Return the seconds of `count` round trips, one after the other."""
        send, receive, clock = self._socket.send, self._socket.recv, time.perf_counter
        taken: list[float] = []
        for _ in range(count):
            began = clock()
            send(_BODY)
            receive()
            taken.append(clock() - began)
        return taken

    def close(self) -> None:
        self._socket.close(0)
        self._context.term()
        self._rig.stop(*self._children)


def run_hub(pipe: Connection, folder: Path, key: KeyPair, asked: str, durability: Durability) -> None:
    """Role: the floor's hub. It says on which endpoint it listens."""
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    database.execute("CREATE TABLE message (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.set(zmq.LINGER, 0)
    router.set(zmq.CURVE_SERVER, 1)
    router.set(zmq.CURVE_SECRETKEY, key.secret.encode())
    router.bind(asked)
    endpoint = router.last_endpoint
    assert isinstance(endpoint, bytes)
    pipe.send(endpoint.decode())
    send, receive, execute = router.send, router.recv, database.execute
    while True:
        sender = receive()
        body = receive()
        execute("INSERT INTO message (body) VALUES (?)", (body,))  # its own transaction: committed when it returns
        send(_AGENT if sender == _CLIENT else _CLIENT, zmq.SNDMORE)
        send(body)


def run_agent(pipe: Connection, endpoint: str, hub_public_key: str) -> None:
    """Role: the floor's agent, which answers each task at once."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = _dealer(context, endpoint, _AGENT, hub_public_key)
    # A ROUTER drops what is for a peer it does not know yet, so the handshake has to be over before the first task.
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    monitor.recv_multipart()
    socket.disable_monitor()
    pipe.send("ready")
    while True:
        socket.recv()
        socket.send(_BODY)


def _dealer(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, routing_id: bytes, hub_public_key: str
) -> zmq.Socket[bytes]:
    key = make_key_pair()
    socket = context.socket(zmq.DEALER)
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.ROUTING_ID, routing_id),
        (zmq.CURVE_SERVERKEY, hub_public_key.encode()),
        (zmq.CURVE_PUBLICKEY, key.public.encode()),
        (zmq.CURVE_SECRETKEY, key.secret.encode()),
    ):
        socket.set(option, value)
    socket.connect(endpoint)
    return socket
