"""What an accepted peer sends harms itself alone: garbage, what is too large, and not reading."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from orchestra import wire
from orchestra.hub import router as router_module
from orchestra.limits import FRAME_BYTES_MAX
from orchestra.wire import ERROR, PING, SEND

from ..hub.livehub import live_hub, raw_peer, run, soon, until


def test_garbage_from_a_known_key_is_answered_with_codes_counted_and_harms_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        chance = random.Random(7)
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("operator/o") as operator,
            raw_peer(hub, "matrix/evil") as evil,
        ):
            await evil.hello()
            frames = [chance.randbytes(chance.randint(0, 300)) for _ in range(200)]
            frames += [wire.pack([[]]), wire.pack([[99]]), b"\x91" * 5000, wire.pack([[PING, 1]] * 2000)]
            frames += [wire.pack([[b"x" * 1000]]), wire.pack([[SEND, 1, "x", 0, b"", {"priority": [{}]}]])]
            for frame in frames:
                await evil.say_frames(frame)
                await soon(operator.send("operator/o", "others are served"))
            heard = await evil.hears()
            assert {record[0] for record in heard} <= {ERROR, wire.PONG}
            assert {record[3] for record in heard if record[0] == ERROR} <= {
                "malformed", "too_large", "unknown_verb", "bad_option", "bad_address",
            }  # fmt: skip
            assert hub.count("malformed") > 100
            assert hub.count("refused") >= 2
            assert hub.session("matrix/evil")

    run(scenario())


def test_a_giant_frame_costs_its_sender_the_connection_and_nobody_else_anything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("operator/o") as operator,
            raw_peer(hub, "matrix/evil") as evil,
        ):
            await evil.hello()
            await evil.say_frames(os.urandom(FRAME_BYTES_MAX + 1))
            await until(lambda: not hub.decider.state.roster.peers["matrix/evil"].sessions)
            await soon(operator.send("operator/o", "others are served"))

    run(scenario())


def test_a_peer_that_never_reads_is_dropped_and_others_are_served_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "SEND_QUEUE_FRAMES", 8)

    async def scenario() -> None:
        async with (
            live_hub(tmp_path) as hub,
            hub.connect("operator/o") as operator,
            raw_peer(hub, "agent/deaf", RCVHWM=1, RCVBUF=4096) as deaf,
        ):
            await deaf.hello(credit=4000)
            sent = 0
            while hub.count("slow_reader") == 0:
                await soon(operator.send("agent/deaf", bytes(500_000)))
                await soon(operator.send("operator/o", "others are served"))
                sent += 1
                assert sent < 200, "what a deaf peer is owed must not pile up in memory"
            await until(lambda: not hub.decider.state.roster.peers["agent/deaf"].sessions)
            assert hub.decider.state.roster.peers["agent/deaf"].mailbox.count == sent
            await soon(operator.send("operator/o", "and afterwards"))

    run(scenario())
