"""Letting a peer of this machine in."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.errors import HubUnreachable, KeyFault
from orchestra.keys import load_key, make_key_pair, save_key
from orchestra.state import StateFolder, this_operator

from .hub.livehub import live_hub, run, soon

AGENT = parse_peer("agent/new")


def test_who_holds_the_operators_key_lets_a_peer_in_and_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            pair = await soon(enrol_here(hub.folder, AGENT))
            assert await soon(enrol_here(hub.folder, AGENT)) == pair
            assert load_key(hub.folder.key_of(AGENT)) == pair
            async with aio.connect(state=hub.folder.path, address="agent/new") as agent:
                assert await soon(agent.send("agent/new", "it is me")) == 1

    run(scenario())


def test_without_the_operators_key_the_peers_own_is_used_as_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = StateFolder(tmp_path)
        with pytest.raises(KeyFault):
            await enrol_here(folder, AGENT)
        pair = make_key_pair()
        save_key(folder.key_of(AGENT), pair, owner="agent/new")
        assert await enrol_here(folder, AGENT) == pair

    run(scenario())


def test_without_a_hub_it_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = StateFolder(tmp_path)
        save_key(folder.key_of(this_operator()), make_key_pair(), owner="me")
        with pytest.raises(HubUnreachable, match="orchestra up"):
            await soon(enrol_here(folder, AGENT))

    run(scenario())
