"""The ROUTER transport: CURVE sockets for peers, and the ZAP handler that knows their keys.

A peer is its key. libzmq asks the ZAP handler about every handshake and stamps what it answers (the address and the
key) on every message as `User-Id`; the routing id, which a client may choose, is only used to send back. What
`docs/protocol.md` calls smuggling (a message of more than one frame, whose third frame would look like the next peer's
first) is dropped here.
"""

from __future__ import annotations

import errno
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq
from zmq.utils import z85

from orchestra.errors import PortInUse, StateFault
from orchestra.keys import KeyPair
from orchestra.limits import (
    FRAME_BYTES_MAX,
    HANDSHAKE_MS,
    REFUSALS_BURST_S,
    REFUSALS_PER_S,
    ROUTING_ID_BYTES,
    SEND_QUEUE_FRAMES,
    TURNED_AWAY_BURST_S,
    TURNED_AWAY_PER_S,
)
from orchestra.wire import Record, encode

from .descriptor import deafen, shut, source_of, undeafen
from .enrolment import Stranger
from .lobby import Lobby
from .tarpit import Refusals, Tarpit
from .turn import Link

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_MONITOR_ENDPOINT: Final = "inproc://orchestra.monitor"
_ZAP_DOMAIN: Final = b"orchestra"
_HEARTBEAT_MS: Final = 5000  # ZMTP's own, in libzmq's thread: notices a dead machine although nobody sends
_REFUSED_KEPT: Final = 100  # keys of strangers, until somebody asks for them
_BACKLOG: Final = 1024
# Plain integers: enum operations cost several microseconds each on the way of every message.
_POLLIN: Final = int(zmq.POLLIN)
_DONTWAIT: Final = int(zmq.DONTWAIT)
_SNDMORE_DONTWAIT: Final = int(zmq.SNDMORE | zmq.DONTWAIT)
_GOODBYE_MS: Final = 200  # how long closing waits for the last records to leave
_DISCONNECTED: Final = int(zmq.EVENT_DISCONNECTED)
_ACCEPTED: Final = int(zmq.EVENT_ACCEPTED)
_EVENT: Final = struct.Struct("=Hi")  # zmq_socket_monitor(3): which event, and its value: here a descriptor
_AT_ONCE: Final = 32  # events, or handshakes: in a flood there are thousands a second, and others wait (1 ms)
_FILES_SPARE: Final = 64, 4  # so many files, or a part of this size, are kept free


class Arrived(NamedTuple):
    """One frame, from whom its key or token says."""

    link: Link
    identity: str
    frame: bytes


class _Handshake(NamedTuple):
    """One that libzmq asks about: which of its sessions asks, and its number there."""

    link: bytes
    sequence: bytes


class Router:
    """The hub's sockets. One thread; everything returns at once."""

    def __init__(
        self, key: KeyPair, *, identity_of: Callable[[str], str | None], counts: Counter[str] | None = None
    ) -> None:
        """Args:
        identity_of: what a public key (Z85) proves, or None for a key that is not let in.
        counts: where what happens is counted by name.
        """
        assert zmq.has("curve"), "this libzmq was built without CURVE"
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._identity_of = identity_of
        self._known: dict[bytes, int] = {}
        self._links: dict[int, bytes] = {}
        self._ended: list[bytes] = []
        self._bound: list[str] = []
        self._unbound: list[str] = []
        self._lobby = Lobby()
        self._refusals = Refusals(rate=REFUSALS_PER_S, burst_s=REFUSALS_BURST_S)
        self._turned_away = Refusals(rate=TURNED_AWAY_PER_S, burst_s=TURNED_AWAY_BURST_S)
        chance = random.Random().random
        self._deaf: Tarpit[int] = Tarpit(chance)
        """Connections that found no room, and whose address had too many of them, by descriptor."""
        self._unanswered: Tarpit[_Handshake] = Tarpit(chance)
        """Those of keys that are not known, and whose address had too many of them."""
        self._sessionless: set[bytes] = set()
        self._file_max = _file_max()
        self._refused: list[Stranger] = []
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 64)
        # The ZAP handler is bound before any key can be tried, and enforced: without one libzmq would let everybody in.
        # It is no REP, which would have to answer one after the other: some wait for their refusal.
        self._zap: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._zap.linger = 0
        self._zap.bind(_ZAP_ENDPOINT)
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, key.secret.encode()),
            (zmq.ZAP_DOMAIN, _ZAP_DOMAIN),
            (zmq.ZAP_ENFORCE_DOMAIN, 1),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.ROUTER_HANDOVER, 0),
            (zmq.MAXMSGSIZE, FRAME_BYTES_MAX),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
            (zmq.BACKLOG, _BACKLOG),
            (zmq.SNDHWM, SEND_QUEUE_FRAMES),
            (zmq.RCVHWM, SEND_QUEUE_FRAMES),
            (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MS),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 60),
            (zmq.TCP_KEEPALIVE_INTVL, 15),
            (zmq.TCP_KEEPALIVE_CNT, 4),
            (zmq.LINGER, 0),
        ):
            self._socket.set(option, value)
        # Without a bound: libzmq's thread, which serves all peers, waits where an event finds no room. In a flood, and
        # with a slow disk, the usual 2,000 are full at once.
        self._monitor: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._monitor.set(zmq.RCVHWM, 0)
        self._socket.monitor(_MONITOR_ENDPOINT, _DISCONNECTED | _ACCEPTED)
        self._monitor.connect(_MONITOR_ENDPOINT)

    def bind(self, endpoint: str) -> str:
        """Listen on `endpoint`; return it with the port that was taken.

        Raises:
            PortInUse: if another program listens there.
            StateFault: if the host is not one of this machine's, or the socket's path can't be used.
        """
        self._socket.set(zmq.IPV6, int("[" in endpoint))  # always on, it would tell 127.0.0.1 as [::ffff:127.0.0.1]
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise PortInUse(f"{endpoint} is in use by another program; choose another port with --port") from exc
            raise StateFault(f"can't listen on {endpoint}: {exc.strerror}") from exc
        if endpoint.startswith("ipc://"):
            Path(endpoint.removeprefix("ipc://")).chmod(0o600)
        bound = bytes(self._socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        self._bound.append(bound)
        return bound

    def change_key(self, key: KeyPair) -> None:
        """Let nobody in any more with the hub's key until now, and end every connection; `bind_again` lets them back.

        A key belongs to a place that is listened at, from when that begins, and so do the connections that came there.
        """
        self._socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        for endpoint in self._bound:
            self._socket.unbind(endpoint)
        self._unbound, self._bound = self._bound, []

    def bind_again(self) -> bool:
        """Listen again where it was listened before; False: some place is still being left, so ask again soon.

        Raises:
            StateFault: if it can't be.
        """
        while self._unbound:
            try:
                self.bind(self._unbound[-1])
            except PortInUse:
                return False
            self._unbound.pop()
        return True

    def close(self) -> None:
        self._socket.disable_monitor()
        self._socket.close(_GOODBYE_MS)
        for each in (self._monitor, self._zap):
            each.close(0)
        self._context.term()

    @property
    def input_descriptor(self) -> int:
        """Readable when frames may have arrived. It is edge-triggered: see `has_input`."""
        return int(self._socket.get(zmq.FD))

    @property
    def handshake_descriptor(self) -> int:
        """Readable when `answer_handshakes` should be called; edge-triggered."""
        return int(self._zap.get(zmq.FD))

    @property
    def gone_descriptor(self) -> int:
        """Readable when `gone` should be called; edge-triggered."""
        return int(self._monitor.get(zmq.FD))

    def has_input(self) -> bool:
        """Whether a frame can be read now.

        libzmq's descriptor tells of a change once, and a send may swallow that; ask after every burst of sends.
        """
        return _is_readable(self._socket)

    def drain(self, frames_max: int) -> Iterator[Arrived]:
        """Give what has arrived, at most `frames_max`."""
        receive = self._socket.recv
        for _ in range(frames_max):
            if not _is_readable(self._socket):  # cheaper than the exception that an empty socket raises
                return
            link = receive(_DONTWAIT)
            frame = receive(_DONTWAIT, copy=False)
            if frame.more:
                self._drop_rest()
                self.counts["smuggled"] += 1
                continue
            if len(link) < ROUTING_ID_BYTES:
                self.counts["short_routing_id"] += 1
                continue
            try:
                identity = frame.get("User-Id")
                if link not in self._known:
                    self._meet(link, frame.get(zmq.SRCFD))
            except zmq.ZMQError:
                self.counts["no_user_id"] += 1
                continue
            yield Arrived(link, str(identity), frame.bytes)

    def send(self, link: bytes, records: list[Record]) -> bool:
        """Send `records` to one connection; False if it is gone, or reads so slowly that its queue is full."""
        for frame in encode(records):
            try:
                self._socket.send(link, _SNDMORE_DONTWAIT)
            except zmq.Again:
                self.counts["slow_reader"] += 1
                return False
            except zmq.ZMQError as exc:
                if exc.errno != errno.EHOSTUNREACH:
                    raise
                return False
            self._socket.send(frame, _DONTWAIT)
        return True

    def kick(self, link: bytes) -> None:
        """Close the connection. libzmq has no call for it; shutting the TCP connection down makes it notice.

        The descriptor belongs to libzmq and is not closed here.
        """
        self._watch()  # it may have ended, and its descriptor may be another's by now
        descriptor = self._known.get(link)
        if descriptor is not None:
            shut(descriptor)

    def close_sessionless(self, sessions: AbstractSet[Any]) -> None:
        """Close each connection that neither has one of the `sessions` nor had one at the last call.

        So a peer, or who has none of the keys, can't keep what it does not use. Call it every SESSIONLESS_S.
        """
        self._watch()
        for descriptor in self._lobby.overdue(at_ms=_steady_ms()):
            shut(descriptor)
        sessionless = self._known.keys() - sessions
        for link in sessionless & self._sessionless:
            self.kick(link)
        self._sessionless = sessionless

    def answer_handshakes(self) -> bool:
        """Answer handshakes that wait, and return whether more do.

        A known key gets its address and itself as user id, any other is refused: at once, or later by `release`.
        """
        for _ in range(_AT_ONCE):
            try:
                asked = self._zap.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return False
            handshake, request = _Handshake(asked[0], asked[3]), asked[2:]
            version, _, domain, _, _, mechanism = request[:6]
            identity = None
            if version == b"1.0" and domain == _ZAP_DOMAIN and mechanism == b"CURVE" and len(request) == 7:
                identity = self._identity_of(z85.encode(request[6]).decode())
            if identity is not None:
                self._answer(handshake, b"200", b"OK", identity.encode())
                continue
            self.counts["keys_refused"] += 1
            source = _address_of(request[3])
            if len(self._refused) < _REFUSED_KEPT and len(request) == 7:
                self._refused.append(Stranger(z85.encode(request[6]).decode(), source))
            is_late = bool(source) and self._refusals.add(source, at_ms=_steady_ms())
            if is_late and self._unanswered.has_room:
                self._unanswered.hold(handshake, at_ms=_steady_ms())
            else:
                self._refuse(handshake)
        return _is_readable(self._zap)

    def _refuse(self, handshake: _Handshake) -> None:
        self._answer(handshake, b"400", b"key is not known", b"")

    def _answer(self, handshake: _Handshake, status: bytes, text: bytes, user_id: bytes) -> None:
        link, sequence = handshake
        self._zap.send_multipart([link, b"", b"1.0", sequence, status, text, user_id, b""])

    def release(self) -> None:
        """Let go who waited in the tarpit for long enough. Call it now and then while it `is_holding`."""
        self._watch()  # a descriptor is given out again at once
        at_ms = _steady_ms()
        for handshake in self._unanswered.release(at_ms=at_ms):
            self._refuse(handshake)
        for descriptor in self._deaf.release(at_ms=at_ms):
            undeafen(descriptor)
            shut(descriptor)

    @property
    def is_holding(self) -> bool:
        """Whether somebody waits in the tarpit."""
        return bool(self._unanswered or self._deaf)

    def refused(self) -> list[Stranger]:
        """Return who was refused since the last call; in a flood not everybody."""
        refused, self._refused = self._refused, []
        return refused

    def gone(self) -> list[bytes]:
        """Return connections that ended since the last call; there may be more while `has_events`."""
        self._watch(events_max=_AT_ONCE)
        ended, self._ended = self._ended, []
        return ended

    def has_events(self) -> bool:
        """Whether `gone` should be called again."""
        return _is_readable(self._monitor)

    def _watch(self, *, events_max: int = sys.maxsize) -> None:
        receive = self._monitor.recv
        while events_max and _is_readable(self._monitor):
            events_max -= 1
            event, descriptor = _EVENT.unpack(receive(_DONTWAIT))
            receive(_DONTWAIT)  # the endpoint, which is ours
            if event == _ACCEPTED:
                if descriptor > self._file_max:
                    self._turn_away(descriptor)
                else:
                    self._let_in(descriptor)
            else:
                self._lobby.leave(descriptor)
                self._deaf.forget(descriptor)
                link = self._links.pop(descriptor, None)
                if link is not None:
                    del self._known[link]
                    self._ended.append(link)

    def _turn_away(self, descriptor: int) -> None:
        """Close a connection that took one of the last files; its client comes back later.

        Without any file libzmq ends the whole process (`ipc_listener.cpp` takes EMFILE for impossible), or spins (tcp).
        """
        self.counts["turned_away"] += 1
        shut(descriptor)

    def _let_in(self, descriptor: int) -> None:
        """Let a connection wait for its handshake, and close whoever has to make room for it. Local ones just wait."""
        source = source_of(descriptor)
        if not source:
            return
        closed = self._lobby.enter(descriptor, source, at_ms=_steady_ms())
        if closed is None:
            return
        self.counts["lobby_full" if closed == descriptor else "crowded_out"] += 1
        is_late = closed == descriptor and self._turned_away.add(source, at_ms=_steady_ms())
        if is_late and self._deaf.has_room and deafen(descriptor):
            self._deaf.hold(descriptor, at_ms=_steady_ms())
        else:
            shut(closed)

    def _meet(self, link: bytes, descriptor: int) -> None:
        """Remember which descriptor a connection has: it is all that libzmq tells when the connection ends."""
        # A descriptor is given out again at once. libzmq tells of an end before it closes, so what it has told of this
        # descriptor until now was told of an earlier connection, and must not be taken for the end of this one.
        self._watch()
        self._lobby.leave(descriptor)
        if self._deaf.forget(descriptor):  # its handshake was quicker
            undeafen(descriptor)
        self._known[link] = descriptor
        self._links[descriptor] = link

    def _drop_rest(self) -> None:
        while self._socket.get(zmq.RCVMORE):
            self._socket.recv(zmq.DONTWAIT)


def _is_readable(each: zmq.Socket[bytes]) -> bool:
    return bool(zmq.zmq_poll([(each, _POLLIN)], 0))


def _address_of(told: bytes) -> str:
    """Return the IP address that a ZAP request names; "" for a Unix socket, of which it says localhost:UID:GID:PID."""
    text = told.decode("ascii", "replace")
    return "" if text.startswith("localhost") else text


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _file_max() -> int:
    """Return the highest descriptor that a connection may have: they are given out from the lowest."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    spare, part = _FILES_SPARE
    return limit - max(spare, limit // part)
