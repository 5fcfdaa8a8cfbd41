"""What is over is removed by a hub as it runs."""

from __future__ import annotations

import asyncio

from orchestra import aio

from .programs import Place, wait_until

ENTRIES = 20


def test_a_hub_removes_what_it_is_told_not_to_keep_and_tells_of_it_once(place: Place) -> None:
    hub = place.hub()

    async def publish() -> None:
        async with aio.connect(state=place.state) as client:
            await client.send_all("channel/status", [b"x"] * ENTRIES)

    asyncio.run(publish())
    hub.kill()
    hub = place.hub("--keep-channel-entries", "5")
    wait_until(lambda: "removed what is over" in hub.stderr, "the run")
    assert f"removed what is over: {ENTRIES - 5} entries\n" in hub.stderr
    (status,) = [each for each in place.run("channel", "list", "--json").data if each["channel"] == "channel/status"]
    assert (status["entries"], status["trimmed_seq"]) == (5, ENTRIES - 5)
