"""The ROUTER transport, on real sockets and without a hub behind it."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from orchestra import wire
from orchestra.errors import PortInUse, StateFault
from orchestra.hub import lobby as lobby_module
from orchestra.hub import router as router_module
from orchestra.hub.enrolment import Stranger
from orchestra.hub.router import Arrived, Router
from orchestra.hub.tarpit import Refusals
from orchestra.keys import KeyPair, make_key_pair
from orchestra.limits import REFUSALS_BURST_S, REFUSALS_PER_S, TARPIT_MS
from orchestra.wire import PING, PONG

BOUND_MS = 5000
EVENTS = 3000  # more than the 2,000 for which libzmq has room by itself


class Rig:
    """A router, and dealers that connect to it."""

    def __init__(self) -> None:
        self.key = make_key_pair()
        self.peers: dict[str, str] = {}
        self.router = Router(self.key, identity_of=self.peers.get)
        self.context = zmq.Context()
        self.sockets: list[zmq.Socket[bytes]] = []

    def close(self) -> None:
        for each in self.sockets:
            each.close(0)
        self.context.term()
        self.router.close()

    def enrol(self, text: str) -> KeyPair:
        pair = make_key_pair()
        self.peers[pair.public] = text
        return pair

    def dealer(self, endpoint: str, key: KeyPair, *, routing_id: bytes | None = None) -> zmq.Socket[bytes]:
        dealer = self.context.socket(zmq.DEALER)
        dealer.set(zmq.ROUTING_ID, routing_id or os.urandom(15) + b"\x01")
        dealer.set(zmq.CURVE_SERVERKEY, self.key.public.encode())
        dealer.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        dealer.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        dealer.set(zmq.IPV6, 1)
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.RECONNECT_IVL, -1)
        dealer.connect(endpoint)
        self.sockets.append(dealer)
        return dealer

    def arrived(self, count: int = 1) -> list[Arrived]:
        """Wait for so many frames."""
        found: list[Arrived] = []
        self.wait(lambda: found.extend(self.router.drain(100)) or len(found) >= count)
        return found

    def wait(self, is_done: object) -> None:
        """Serve handshakes until `is_done()`."""
        poller = zmq.Poller()
        for descriptor in (
            self.router.input_descriptor,
            self.router.handshake_descriptor,
            self.router.gone_descriptor,
        ):
            poller.register(descriptor, zmq.POLLIN)
        until = time.monotonic() + BOUND_MS / 1000
        while time.monotonic() < until:
            self.router.answer_handshakes()
            if is_done():  # type: ignore[operator]
                return
            self.router.has_input()  # which rearms its descriptor
            poller.poll(10)
        raise AssertionError("waited in vain")


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_frame_arrives_with_the_address_its_key_proves_and_is_answered(
    rig: Rig, tmp_path: Path, transport: str
) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/hub.sock")
    dealer = rig.dealer(endpoint, rig.enrol("agent/a"))
    dealer.send(wire.pack([[PING, 1]]))
    (arrived,) = rig.arrived()
    assert (arrived.identity, arrived.frame) == ("agent/a", wire.pack([[PING, 1]]))
    assert rig.router.send(arrived.link, [[PONG, 1]])
    assert dealer.poll(BOUND_MS)
    assert dealer.recv() == wire.pack([[PONG, 1]])


def test_a_free_port_is_taken_and_told(rig: Rig) -> None:
    assert int(rig.router.bind("tcp://127.0.0.1:0").rsplit(":", 1)[1]) > 1024


def test_a_port_in_use_is_told_from_a_host_that_is_not_ours(rig: Rig) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortInUse, match="choose another port with --port"):
            rig.router.bind(f"tcp://127.0.0.1:{other.getsockname()[1]}")
    with pytest.raises(StateFault, match="can't listen on"):
        rig.router.bind("tcp://203.0.113.7:0")
    with pytest.raises(StateFault):
        rig.router.bind("ipc:///nonexistent/hub.sock")


def test_the_local_socket_is_for_this_user_alone(rig: Rig, tmp_path: Path) -> None:
    rig.router.bind(f"ipc://{tmp_path}/hub.sock")
    assert (tmp_path / "hub.sock").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_not_known_never_gets_a_frame_through(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    stranger = rig.dealer(endpoint, make_key_pair())
    stranger.send(b"x")
    rig.wait(lambda: rig.router.counts["keys_refused"] == 1)
    known = rig.dealer(endpoint, rig.enrol("agent/a"))
    known.send(b"y")
    assert [each.frame for each in rig.arrived()] == [b"y"]


def test_a_stranger_is_told_of_with_where_it_came_from(rig: Rig, tmp_path: Path) -> None:
    for endpoint, source in (("tcp://127.0.0.1:0", "127.0.0.1"), (f"ipc://{tmp_path}/hub.sock", "")):
        stranger = make_key_pair()
        rig.dealer(rig.router.bind(endpoint), stranger)
        refused: list[Stranger] = []
        rig.wait(lambda refused=refused: refused.extend(rig.router.refused()) or bool(refused))
        assert refused == [Stranger(stranger.public, source)]


def test_a_smuggled_frame_is_counted_and_what_follows_is_read_right(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    victim_id = os.urandom(15) + b"\x01"
    evil = rig.dealer(endpoint, rig.enrol("agent/evil"))
    evil.send_multipart([b"a", victim_id, b"forged"])
    evil.send_multipart([victim_id, b"forged"])
    evil.send(b"b")
    (arrived,) = rig.arrived()
    assert (arrived.identity, arrived.frame) == ("agent/evil", b"b")
    assert rig.router.counts["smuggled"] == 2


def test_a_short_routing_id_is_counted_and_not_heard(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    short = rig.dealer(endpoint, rig.enrol("agent/a"), routing_id=b"short")
    short.send(b"x")
    long = rig.dealer(endpoint, rig.enrol("agent/b"))
    rig.wait(lambda: not list(rig.router.drain(9)) and rig.router.counts["short_routing_id"])
    long.send(b"y")
    assert [each.identity for each in rig.arrived()] == ["agent/b"]


def test_no_more_is_drained_than_was_asked(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    dealer = rig.dealer(endpoint, rig.enrol("agent/a"))
    for i in range(10):
        dealer.send(b"%d" % i)
    found: list[bytes] = []
    while len(found) < 10:
        rig.wait(rig.router.has_input)
        part = list(rig.router.drain(2))
        assert len(part) <= 2
        found += [each.frame for each in part]
    assert found == [b"%d" % i for i in range(10)]
    assert not rig.router.has_input()


def test_a_connection_that_ends_is_told_once(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    dealer = rig.dealer(endpoint, rig.enrol("agent/a"))
    dealer.send(b"x")
    (arrived,) = rig.arrived()
    gone: list[bytes] = []
    dealer.close(0)
    rig.wait(lambda: gone.extend(rig.router.gone()) or gone)
    assert gone == [arrived.link]
    assert rig.router.gone() == []
    rig.wait(lambda: not rig.router.send(arrived.link, [[PONG, 1]]))


def test_a_kicked_connection_ends(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    kicked, other = rig.dealer(endpoint, rig.enrol("agent/a")), rig.dealer(endpoint, rig.enrol("agent/b"))
    for each in (kicked, other):
        each.send(b"x")
    links = {each.identity: each.link for each in rig.arrived(2)}
    rig.router.kick(links["agent/a"])
    rig.router.kick(b"nobody has this")
    gone: list[bytes] = []
    rig.wait(lambda: gone.extend(rig.router.gone()) or gone)
    assert gone == [links["agent/a"]]
    assert rig.router.send(links["agent/b"], [[PONG, 1]])
    rig.router.kick(links["agent/a"])
    assert rig.router.send(links["agent/b"], [[PONG, 1]]), "its descriptor may be another's by now"


def test_nothing_is_kept_of_connections_that_ended(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    key = rig.enrol("agent/a")
    gone: list[bytes] = []
    for count in range(1, 21):
        dealer = rig.dealer(endpoint, key)
        dealer.send(b"x")
        rig.arrived()
        dealer.close(0)
        rig.wait(lambda count=count: gone.extend(rig.router.gone()) or len(gone) == count)
    assert (rig.router._known, rig.router._links) == ({}, {})


def test_a_flood_of_connections_that_nobody_looked_at_yet_holds_up_no_peer(rig: Rig) -> None:
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    dealer = rig.dealer(endpoint, rig.enrol("agent/a"))
    dealer.send(b"x")
    rig.arrived()
    for _ in range(EVENTS // 2):  # each comes, and goes
        with socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))):
            pass
    dealer.send(b"y")
    assert [each.frame for each in rig.arrived()] == [b"y"]


def test_a_full_queue_is_told_and_counted_and_other_connections_have_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router_module, "SEND_QUEUE_FRAMES", 4)
    rig = Rig()
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    deaf, other = rig.dealer(endpoint, rig.enrol("agent/a")), rig.dealer(endpoint, rig.enrol("agent/b"))
    for each in (deaf, other):
        each.send(b"x")
    links = {each.identity: each.link for each in rig.arrived(2)}
    large = [[wire.EVENT, "x", {"x": bytes(300_000)}]]
    sent = 0
    while rig.router.send(links["agent/a"], large):
        sent += 1
        assert sent < 2000
    assert rig.router.counts["slow_reader"] == 1
    assert rig.router.send(links["agent/b"], [[PONG, 1]])
    rig.close()


def test_an_unknown_connection_cannot_be_sent_to(rig: Rig) -> None:
    rig.router.bind("tcp://127.0.0.1:0")
    assert not rig.router.send(os.urandom(16), [[PONG, 1]])
    assert rig.router.send(os.urandom(16), []), "nothing to say is said"


def test_who_left_is_not_closed_in_the_person_of_who_came_after_it(rig: Rig) -> None:
    """A descriptor is given out again at once, to somebody the router has not met yet."""
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    dealer = rig.dealer(endpoint, rig.enrol("agent/a"))
    dealer.send(b"x")
    (arrived,) = rig.arrived()
    while rig.router.has_events():
        rig.router.gone()
    dealer.close(0)
    rig.wait(rig.router.has_events)  # and nobody has looked
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    with ExitStack() as stack:
        newcomers = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(8)]
        for each in newcomers:
            assert each.recv(1), "libzmq greets it"
        rig.router.kick(arrived.link)
        for each in newcomers:
            each.setblocking(False)
            assert not _is_over(each)


def test_who_hammers_with_unknown_keys_waits_for_the_refusal_and_known_keys_do_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ms = [1_000_000]
    monkeypatch.setattr(router_module, "_steady_ms", lambda: at_ms[0])
    endpoint = rig.router.bind("tcp://127.0.0.1:0")
    burst = int(REFUSALS_PER_S * REFUSALS_BURST_S)
    for number in range(burst):
        rig.dealer(endpoint, make_key_pair())
        rig.wait(lambda number=number: rig.router.counts["keys_refused"] == number + 1)
    assert not rig.router.is_holding
    stranger = rig.dealer(endpoint, make_key_pair())
    monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    rig.wait(lambda: rig.router.is_holding)
    known = rig.dealer(endpoint, rig.enrol("agent/a"))
    known.send(b"y")
    assert [each.frame for each in rig.arrived()] == [b"y"]
    at_ms[0] += TARPIT_MS - 1
    rig.router.release()
    assert rig.router.is_holding
    assert not monitor.poll(0)
    at_ms[0] += TARPIT_MS + 1
    rig.router.release()
    assert not rig.router.is_holding
    assert monitor.poll(BOUND_MS), "it was refused"
    stranger.disable_monitor()
    monitor.close(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets one connection hear nothing")
def test_a_newcomer_without_room_is_not_heard_and_closed_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    at_ms = [1_000_000]
    monkeypatch.setattr(router_module, "_steady_ms", lambda: at_ms[0])
    monkeypatch.setattr(lobby_module, "LOBBY_PER_SOURCE_MAX", 1)
    host, _, port = rig.router.bind("tcp://127.0.0.1:0").removeprefix("tcp://").rpartition(":")
    rig.router._turned_away = Refusals(rate=1.0, burst_s=1.0)
    with (
        socket.create_connection((host, int(port))),
        socket.create_connection((host, int(port))) as first,
        socket.create_connection((host, int(port))) as second,
    ):
        rig.wait(lambda: rig.router.gone() or rig.router.is_holding)
        assert rig.router.counts["lobby_full"] == 2
        assert _is_over(first), "who is turned away for the first time is closed at once, and may come again"
        second.setblocking(False)
        with suppress(BlockingIOError):
            while True:  # until the kernel takes no more of it, for it arrives nowhere
                second.send(bytes(65_536))
        at_ms[0] += 2 * TARPIT_MS
        rig.router.release()
        rig.wait(lambda: _is_over(second))
        rig.wait(lambda: not rig.router._deaf and not rig.router.gone())


def _is_over(connection: socket.socket) -> bool:
    """Whether the other side has closed it; what it said before is read and forgotten."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True
