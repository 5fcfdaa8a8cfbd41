"""Subscribers that never read, beside others who do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from orchestra import wire
from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.limits import CREDIT_MAX
from orchestra.state import StateFolder

from .programs import BOUND_S, Place, RawPeer, peer, peer_facts, resident_bytes

T = TypeVar("T")

CHANNEL = "channel/status"
CREDIT = 256
ENTRIES_MAX = 10_000
ENTRIES_BETWEEN = 250
MIB = 2**20
GROWTH_BYTES_MAX = 64 * MIB
STUCK = {"RCVHWM": 1, "RCVBUF": 4096}  # so that little is under way between the hub and who does not read


def test_subscribers_that_never_read_cost_the_others_nothing_and_the_hub_a_bounded_backlog(place: Place) -> None:
    hub = place.hub("--durability", "fast")
    # Both say that they live. One waits with what it was sent; the other always says that it has seen everything.
    patient, greedy = _subscriber(place, "matrix/patient", CREDIT), _subscriber(place, "matrix/greedy", CREDIT_MAX)
    before_bytes = resident_bytes(hub.pid)

    async def scenario() -> None:
        lost: list[str] = []
        async with (
            await peer(place, "matrix/writer") as writer,
            await peer(place, "matrix/reader") as reader,
            # Followed before anything is published: what two connections say is taken in any order.
            reader.subscribe(CHANNEL) as entries,
        ):
            for client in (writer, reader):
                client.on_lost = lambda reason: lost.append(str(reason))
            messages = reader.messages()
            seqs: list[int] = []
            while len(seqs) < ENTRIES_MAX:
                count = len(seqs)
                sent = (
                    writer.send(CHANNEL, str(count).encode() + b" " * 4000),
                    writer.send("matrix/reader", str(count)),
                    writer.send("matrix/patient", b"x"),
                )
                seqs.append((await _soon(asyncio.gather(*sent)))[0])
                assert int((await _soon(anext(entries))).body) == count
                assert (await _soon(anext(messages))).text == str(count)
                if count % ENTRIES_BETWEEN == 0:
                    patient.say([wire.PING, count])
                    greedy.say([wire.PING, count], _seen(seqs[-1]))
                    if (await writer.call("status"))["counts"].get("slow_reader"):
                        break

            assert (await peer_facts(writer, "matrix/greedy"))["sessions"] == [], "its backlog had no end"
            assert len((await peer_facts(writer, "matrix/patient"))["sessions"]) == 1, "it only waits"
            grown = resident_bytes(hub.pid) - before_bytes
            assert grown < GROWTH_BYTES_MAX, f"the hub grew by {grown / MIB:.0f} MiB"
            assert lost == []
            # What the patient one was not sent for want of credit was kept for it.
            got, owed = await asyncio.to_thread(_read_all, patient, entries=len(seqs), messages=len(seqs))
            assert got == seqs
            assert owed == sorted(set(owed))

    try:
        asyncio.run(scenario())
    finally:
        patient.close()
        greedy.close()
    assert "Traceback" not in hub.stderr
    assert "matrix/greedy is dropped: it left" in hub.stderr


def _subscriber(place: Place, address: str, credit: int) -> RawPeer:
    """Return a peer that follows the channel and has read that it does."""
    folder = StateFolder(place.state)
    key = asyncio.run(enrol_here(folder, parse_peer(address)))
    made = RawPeer(folder.read_card(), key, **STUCK)
    made.say([wire.HELLO, 1, 1, "", b"slow----", credit, 0, [], [], {}])
    made.hears(wire.WELCOME)
    made.say([wire.CALL, 1, "subscribe", {"channel": CHANNEL, "credit": credit}])
    made.hears(wire.REPLY)
    return made


def _read_all(patient: RawPeer, *, entries: int, messages: int) -> tuple[list[int], list[int]]:
    """Read at last, as its rules are; return the seqs of the entries and of the messages."""
    got: list[int] = []
    owed: list[int] = []
    while len(got) < entries or len(owed) < messages:
        _, lease, _, seq, *_ = patient.hears(wire.DELIVER)
        if lease:
            owed.append(seq)
            patient.say([wire.ACK, [seq, lease]], [wire.CREDIT, 1, None])
        else:
            got.append(seq)
            patient.say(_seen(seq))
    return got, owed


def _seen(seq: int) -> wire.Record:
    return [wire.CALL, seq, "channel.seen", {"channel": CHANNEL, "seq": seq}]


async def _soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, BOUND_S)
