"""Who is there, seen by real processes: one that freezes, and watchers whose hub is restarted."""

from __future__ import annotations

import asyncio
import json
import signal

import orchestra
from orchestra import aio
from orchestra.address import parse_peer
from orchestra.conversation import Presence
from orchestra.enrol import enrol_here
from orchestra.state import StateFolder

from .gateways import hub_with_gateway
from .programs import BOUND_S, ORCHESTRA, PYTHON, Place, free_port, peer

OLD_CLIENT = """
import asyncio, sys
from websockets.asyncio.client import connect

async def main():
    async for socket in connect(sys.argv[1], ping_interval=None):
        await socket.wait_closed()

asyncio.run(main())
"""


async def _until(watching: object, address: str, state: str) -> Presence:
    """Read on until `address` is said to be in `state`."""
    async with asyncio.timeout(BOUND_S):
        async for presence in watching:  # type: ignore[attr-defined]
            if (presence.address, presence.state) == (address, state):
                return presence  # type: ignore[no-any-return]
    raise AssertionError("the stream ended")


def test_a_process_that_is_frozen_is_offline_to_all_who_watch_and_online_when_it_wakes(place: Place) -> None:
    place.hub()
    agent = place.agent("one")

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            watching = client.watch_presence()
            online = await _until(watching, "agent/one", "online")
            assert online.session_count == 1
            agent.signal(signal.SIGSTOP)
            offline = await _until(watching, "agent/one", "offline")
            assert offline.session_count == 0
            agent.signal(signal.SIGCONT)
            await _until(watching, "agent/one", "online")

    asyncio.run(scenario())


def test_a_websocket_that_is_frozen_is_offline_too_and_comes_back_with_its_url(place: Place) -> None:
    _, gateway = hub_with_gateway(place)

    async def scenario() -> None:
        await enrol_here(StateFolder(place.state), parse_peer("agent/7"))
        token = (await asyncio.to_thread(place.run, "token", "create", "--for", "agent/7", "--url")).stdout.strip()
        async with aio.connect(state=place.state) as client:
            watching = client.watch_presence()
            url = f"{gateway.replace('http', 'ws', 1)}/?token={token}"
            agent = place.start((*PYTHON, "-c", OLD_CLIENT, url), name="client")
            await _until(watching, "agent/7", "online")
            agent.signal(signal.SIGSTOP)
            await _until(watching, "agent/7", "offline")
            agent.signal(signal.SIGCONT)
            await _until(watching, "agent/7", "online")

    asyncio.run(scenario())


def test_a_watcher_outlives_a_hub_that_is_killed_and_learns_what_it_missed(place: Place) -> None:
    port = free_port()
    hub = place.hub(port=port)

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            async with await peer(place, "matrix/other"):
                watching = client.watch_presence()
                await _until(watching, "matrix/other", "online")
                hub.kill()
            place.hub(port=port)
            await _until(watching, "matrix/other", "offline")
            async with await peer(place, "matrix/other"):
                await _until(watching, "matrix/other", "online")

    asyncio.run(scenario())


def test_the_command_line_tells_who_comes_and_goes_line_by_line(place: Place) -> None:
    place.hub()
    watching = place.start((*ORCHESTRA, "peers", "--watch", "--json"), name="watch")
    watching.wait_output('"state": "online"')  # itself
    place.agent("one").kill()
    watching.wait_output('"agent/one", "state": "offline"')
    seen = [json.loads(line)["data"] for line in watching.stdout.splitlines()]
    states = [each["state"] for each in seen if each["address"] == "agent/one" and each["since_ms"]]
    assert states == ["online", "offline"]


def test_away_and_online_are_said_by_hand_and_shown(place: Place) -> None:
    place.hub()
    with orchestra.connect(state=place.state) as client:
        me = client.address
        watching = client.watch_presence()
        assert next(each for each in watching if each.address == me).state == "online"
        said = place.run("away", "at lunch")
        assert (said.code, said.stdout) == (0, f"{me} is away: at lunch\n")
        assert next(each for each in watching if each.state == "away").away_text == "at lunch"
        row = next(line for line in place.run("peers").stdout.splitlines() if line.startswith(me)).split("\t")
        assert row[1] == "away: at lunch"
        assert "1 of 1 operator (1 away)" in place.run("status").stdout
        assert place.run("away", "--for", me, "--json").data["away_text"] == ""
        assert place.run("online").stdout == f"{me} is not away any more\n"
        assert next(each for each in watching if each.state == "online").address == me
    assert "no peer agent/none" in place.run("online", "--for", "agent/none").assert_is_one_sentence(1)
