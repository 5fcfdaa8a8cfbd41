"""Letting a peer in: with this user's operator key on the hub's own machine, or with an invitation from elsewhere.

Either way the key pair is made here, and its secret half never leaves the machine. Only who can read the operator's
key file can do the first, and that is who could do anything to this hub anyway.
"""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any, NamedTuple

import zmq

from . import aio, wire
from .address import Address
from .dealer import Dealer
from .errors import ConnectionLost, HubUnreachable, InvitationOver, KeyRefused, StateFault, error_of
from .invitation import Invitation
from .keys import KeyPair, load_key, load_or_make_key
from .limits import CONNECT_S
from .state import StateFolder, this_operator


async def enrol_here(folder: StateFolder, address: Address, *, patience_s: float | None = 0.0) -> KeyPair:
    """Return the key of `address` in `folder`, made and accepted by the hub if it is not yet. Safe to repeat.

    Without this user's operator key in the folder, the key that is there is returned as it is.

    Raises:
        KeyFault: if neither the peer's key nor the operator's is in the folder.
        HubUnreachable: if no hub answers within `patience_s` seconds (None: wait for ever).
    """
    path = folder.key_of(address)
    operator = this_operator()
    if not folder.key_of(operator).exists():
        return load_key(path)
    pair = load_or_make_key(path, owner=str(address))
    async with aio.connect(state=folder.path, patience_s=patience_s) as client:
        await client.call("keys.accept", address=str(address), public_key=pair.public)
    return pair


class Joined(NamedTuple):
    """Who we are now, with which key, and what we may do."""

    address: Address
    fingerprint: str
    grants: tuple[str, ...]


async def join(folder: StateFolder, invitation: Invitation) -> Joined:
    """Make a key in `folder`, enrol it with `invitation`, and prove the connection.

    Safe to repeat: a key that was enrolled before an answer got lost is enrolled once.

    Raises:
        StateFault: if the folder belongs to another hub.
        InvitationOver: if the invitation was used up, has expired or was revoked.
        HubUnreachable: if no address in it answers.
    """
    folder.make()
    if folder.card.exists() and not set(folder.read_card().public_keys) & set(invitation.card.public_keys):
        raise StateFault(
            f"the state folder {folder.path} belongs to another hub; choose another with --state, "
            f"or, if that hub has a new key which this machine did not hear of, remove {folder.card}"
        )
    address = invitation.address
    pair = load_or_make_key(folder.key_of(address), owner=str(address))
    await _enrol(invitation, pair.public)
    if not folder.card.exists():  # else the hub's own, which knows more of its addresses
        folder.write_card(invitation.card)
    async with aio.connect(state=folder.path, address=str(address), patience_s=CONNECT_S) as client:
        return Joined(address, pair.fingerprint, tuple((await client.call("whoami"))["grants"]))


async def _enrol(invitation: Invitation, public_key: str) -> None:
    """Say the one thing that an invitation allows, at the first address that answers."""
    reason: Exception = HubUnreachable("the invitation names no address of the hub")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        for endpoint, hub_key in product(invitation.card.endpoints, invitation.card.public_keys):
            try:
                async with asyncio.timeout(CONNECT_S):
                    await _say_enrol(context, endpoint, hub_key, invitation, public_key)
                return
            except KeyRefused as refused:
                raise InvitationOver("the hub does not know this invitation any more; ask for another") from refused
            except (HubUnreachable, ConnectionLost) as lost:
                reason = lost
            except TimeoutError:
                reason = HubUnreachable(f"no hub answers at {endpoint}; can this machine reach it?")
        raise reason
    finally:
        await asyncio.get_running_loop().run_in_executor(None, context.term)


async def _say_enrol(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, hub_key: str, invitation: Invitation, public_key: str
) -> None:
    answer: asyncio.Future[wire.Record] = asyncio.get_running_loop().create_future()

    def received(frames: list[bytes]) -> None:
        records, _ = wire.Decoder(wire.FROM_HUB).decode(frames[0])
        if records and not answer.done():
            answer.set_result(records[0])

    dealer = Dealer(context, endpoint, hub_public_key=hub_key, key=invitation.key, received=received)
    try:
        connected: set[asyncio.Future[Any]] = {dealer.up, dealer.down}
        await asyncio.wait(connected, return_when=asyncio.FIRST_COMPLETED)
        dealer.send([wire.pack([[wire.CALL, 1, "enrol", {"public_key": public_key}]])])
        answered: set[asyncio.Future[Any]] = {answer, dealer.down}
        await asyncio.wait(answered, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise dealer.down.result()
        if answer.result()[0] == wire.ERROR:
            raise error_of(*answer.result()[3:5])
    finally:
        dealer.close(linger_ms=0)
