"""Connecting to the hub as a matrix. On the hub's own machine it lets itself in, with this user's operator key."""

from __future__ import annotations

from collections.abc import Callable

from orchestra import aio
from orchestra.address import Address
from orchestra.enrol import enrol_here
from orchestra.errors import Conflict, KeyFault, KeyRefused, UnknownRecipient
from orchestra.state import StateFolder, this_operator

from .identity import Matrix, is_elsewhere


async def introduce(find: Callable[[], Matrix]) -> Matrix:
    """Return which matrix a clone is, once the hub knows it where this user can see to that.

    `find` says which it would be. A name that a clone of another machine has at the hub is passed over.

    Raises:
        HubUnreachable: if no hub answers.
    """
    while True:
        matrix = find()
        if _is_let_in(matrix, matrix.state.read_card().hub_id):
            return matrix
        try:
            await let_in(matrix.state, matrix.address)
        except Conflict:
            continue
        return matrix


async def connect(matrix: Matrix) -> aio.Client:
    """Return a client of this matrix.

    A key that was let in and is refused now was revoked: it is not let in again.

    Raises:
        KeyFault: if it has no key, and this user can't let it in.
        KeyRefused: if the hub refuses its key.
        HubUnreachable: if no hub answers.
    """
    folder, address = matrix.state, matrix.address
    if not folder.key_of(address).exists():
        raise KeyFault(
            f"the hub does not know {address} yet; where the hub runs say `orchestra invite {address}`, "
            "and here, in this clone: orchestra join -"
        )
    try:
        client = await aio.connect(state=folder.path, address=str(address))
    except KeyRefused as exc:
        raise KeyRefused(f"{exc}; an operator can let it in again: orchestra invite {address}") from exc
    _note_let_in(matrix)
    return client


async def let_in(folder: StateFolder, address: Address) -> bool:
    """Make a key for a matrix of this machine and let it in; False where this user can't.

    Raises:
        Conflict: if a clone of another machine has this name; that is noted, so that ours gets another.
        HubUnreachable: if no hub answers.
    """
    if not folder.key_of(this_operator()).exists():
        return False
    if not folder.key_of(address).exists() and await _has_keys(folder, address):
        is_elsewhere(address, folder)
        raise Conflict(f"{address} is a clone on another machine; say it again, and the one here gets another name")
    await enrol_here(folder, address)
    _note_let_in(Matrix(address, folder))
    return True


async def _has_keys(folder: StateFolder, address: Address) -> bool:
    async with aio.connect(state=folder.path) as operator:
        try:
            return bool((await operator.call("peer.keys", address=str(address)))["keys"])
        except UnknownRecipient:
            return False


def _is_let_in(matrix: Matrix, hub_id: str) -> bool:
    try:
        return matrix.let_in.read_text(encoding="ascii") == hub_id
    except FileNotFoundError:
        return False


def _note_let_in(matrix: Matrix) -> None:
    hub_id = matrix.state.read_card().hub_id
    if not _is_let_in(matrix, hub_id):
        matrix.let_in.parent.mkdir(mode=0o700, exist_ok=True)
        matrix.let_in.write_text(hub_id, encoding="ascii")
