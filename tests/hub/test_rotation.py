"""A peer's key is replaced while its messages flow."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.keys import make_key_pair, replace_key

from .livehub import live_hub, run, soon, until


def test_a_sender_loses_no_message_when_its_key_is_replaced_and_the_old_one_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            hub.enrol("matrix/s")
            path, new = hub.folder.key_of(parse_peer("matrix/s")), make_key_pair()
            async with (
                aio.connect(state=hub.folder.path, address="matrix/s") as sender,
                hub.connect("matrix/r") as reader,
            ):
                sent: list[bytes] = []
                read: list[bytes] = []

                def has_new_key() -> bool:
                    sessions = hub.decider.state.roster.peers["matrix/s"].sessions
                    return any(session.identity.endswith(new.public) for session in sessions)

                async def send_until_well_after_it() -> None:
                    after = 0
                    while after < 20:
                        sent.append(b"%d" % len(sent))
                        await sender.send("matrix/r", sent[-1])
                        after += has_new_key()

                async def read_all() -> None:
                    async for message in reader.messages():
                        read.append(message.body)

                sending, reading = (asyncio.create_task(each()) for each in (send_until_well_after_it, read_all))
                await until(lambda: len(read) > 20, "some messages")
                await soon(sender.call("keys.rotate", public_key=new.public, overlap_ms=200))
                replace_key(path, new, owner="matrix/s")
                await soon(sending)
                await until(lambda: len(read) == len(sent), "the last messages")
                reading.cancel()
            assert read == sent
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(len(sent),)]

    run(scenario())
