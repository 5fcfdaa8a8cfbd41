"""Codes of invitations: used again, by two at once, guessed, changed, and used for something else. On real sockets."""

from __future__ import annotations

import asyncio
import random
import string
from pathlib import Path
from typing import Any

import pytest
import zmq

from orchestra.address import parse_peer
from orchestra.enrol import join
from orchestra.errors import BadOption, HubUnreachable, InvitationOver
from orchestra.invitation import Invitation, decode_invitation
from orchestra.keys import KeyPair, make_key_pair
from orchestra.state import HubCard, StateFolder
from orchestra.wire import CALL, ERROR, HELLO, MESSAGE, REPLY, SEND

from ..hub.fakehub import hello
from ..hub.livehub import LiveHub, live_hub, raw_peer, run, soon

FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)


async def _invite(hub: LiveHub, address: str = "agent/new", *, ttl_ms: int = 60_000, uses: int = 1) -> KeyPair:
    """Return the one-time key of a fresh invitation."""
    once = make_key_pair()
    async with hub.connect("operator/root") as operator:
        await soon(operator.call("invite", address=address, public_key=once.public, ttl_ms=ttl_ms, uses=uses))
    return once


async def _enrol(hub: LiveHub, once: KeyPair, public_key: str) -> list[Any]:
    async with raw_peer(hub, "agent/new", key=once) as guest:
        await guest.say([CALL, 1, "enrol", {"public_key": public_key}])
        return await guest.next()


def _owners(hub: LiveHub) -> list[str]:
    return sorted(hub.decider.state.keys.values())


def test_a_code_that_was_used_lets_nobody_else_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            once = await _invite(hub)
            assert (await _enrol(hub, once, make_key_pair().public))[0] == REPLY
            owners = _owners(hub)
            for _ in range(3):
                refused = await _enrol(hub, once, make_key_pair().public)
                assert refused[3] == "invitation_over"
                assert "used already" in refused[4]
            assert _owners(hub) == owners

    run(scenario())


def test_of_many_who_use_a_code_at_once_one_gets_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            once = await _invite(hub)
            answers = await asyncio.gather(*(_enrol(hub, once, make_key_pair().public) for _ in range(20)))
            assert sorted(each[0] for each in answers) == [ERROR] * 19 + [REPLY]
            assert _owners(hub).count("agent/new") == 1

    run(scenario())


def test_a_code_may_do_nothing_but_enrol_for_its_own_address(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            once = await _invite(hub, uses=50)
            owners = _owners(hub)
            for record in (
                hello("agent/new"),
                hello("operator/root"),
                [SEND, 1, "operator/root", MESSAGE, b"", None],
                [CALL, 1, "keys.list", {}],
                [CALL, 1, "keys.accept", {"address": "operator/evil", "public_key": make_key_pair().public}],
                [CALL, 1, "enrol", {"public_key": once.public}],
                [CALL, 1, "enrol", {"public_key": hub.public_key[:-1]}],
            ):
                async with raw_peer(hub, "agent/new", key=once) as guest:
                    await guest.say(record)
                    answer = await guest.next()
                    assert answer[0] == ERROR, record
                    assert answer[1] == (record[0] if record[0] in (HELLO, SEND, CALL) else answer[1])
                    await guest.event(int(zmq.EVENT_DISCONNECTED))  # whatever it said, that was all
            assert await _enrol_as(hub, once, "operator/root") == "agent/new", "the address is the invitation's"
            assert _owners(hub) == sorted([*owners, "agent/new"])
            assert hub.decider.state.roster.sessions == {}

    run(scenario())


async def _enrol_as(hub: LiveHub, once: KeyPair, address: str) -> str:
    """Enrol with a parameter more than there is."""
    async with raw_peer(hub, address, key=once) as guest:
        await guest.say([CALL, 1, "enrol", {"public_key": make_key_pair().public, "address": address}])
        return str((await guest.next())[2]["address"])


def test_a_revoked_and_an_expired_code_say_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            expired, revoked = await _invite(hub, ttl_ms=1), await _invite(hub)
            refused = await _enrol(hub, expired, make_key_pair().public)
            assert (refused[3], "expired" in refused[4]) == ("invitation_over", True)
            async with hub.connect("operator/root") as operator:
                await soon(operator.call("keys.revoke", public_key=revoked.public))
            refused = await _enrol(hub, revoked, make_key_pair().public)
            assert (refused[3], "revoked" in refused[4]) == ("invitation_over", True)

    run(scenario())


def test_guessing_costs_a_handshake_each_is_counted_and_leads_nowhere(tmp_path: Path) -> None:
    """The secret is a CURVE key, 256 bits: there is nothing shorter to guess."""

    async def scenario() -> None:
        async with live_hub(tmp_path) as hub:
            await _invite(hub)
            owners, refused = _owners(hub), hub.count("keys_refused")
            for _ in range(20):
                async with raw_peer(hub, "agent/new", key=make_key_pair()) as guest:
                    await guest.say([CALL, 1, "enrol", {"public_key": make_key_pair().public}])
                    assert await guest.event(FAILED, SUCCEEDED) == FAILED
            assert _owners(hub) == owners
            assert hub.count("keys_refused") == refused + 20

    run(scenario())


@pytest.mark.parametrize("seed", range(4))
def test_a_code_with_a_character_changed_joins_nowhere(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        async with live_hub(tmp_path) as hub:
            once = await _invite(hub)
            code = Invitation(parse_peer("agent/new"), HubCard((hub.tcp,), hub.public_key), once.secret).encode()
            for number in range(10):
                place = chance.randrange(5, len(code) - 1)
                other = chance.choice((string.ascii_letters + string.digits).replace(code[place], ""))
                changed = code[:place] + other + code[place + 1 :]
                try:
                    invitation = decode_invitation(changed)
                except BadOption:
                    continue
                if invitation.card.endpoints == (hub.tcp,) and invitation.address == parse_peer("agent/new"):
                    with pytest.raises((InvitationOver, HubUnreachable)):
                        await soon(_join(tmp_path / f"far-{number}", invitation))
            assert "agent/new" not in _owners(hub)

    run(scenario())


async def _join(folder: Path, invitation: Invitation) -> None:
    try:
        async with asyncio.timeout(1):  # a hub of another key never answers
            await join(StateFolder(folder), invitation)
    except TimeoutError:
        raise HubUnreachable("no answer") from None
