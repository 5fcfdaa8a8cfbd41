"""Connecting to the hub as a matrix. On the hub's own machine it lets itself in, with this user's operator key."""

from __future__ import annotations

from orchestra import aio
from orchestra.address import Address
from orchestra.enrol import enrol_here
from orchestra.errors import KeyFault, KeyRefused
from orchestra.state import StateFolder, this_operator

from .identity import Matrix


async def connect(matrix: Matrix, *, patience_s: float | None = 0.0) -> aio.Client:
    """Return a client of this matrix; its key is made and let in at the first time.

    A key that was let in and is refused now was revoked: it is not let in again.

    Raises:
        KeyFault: if it has no key, and this user can't let it in.
        KeyRefused: if the hub refuses its key.
        HubUnreachable: if no hub answers within `patience_s` seconds (None: wait for ever).
    """
    folder, address = matrix.state, matrix.address
    hub_key = folder.read_card().public_key
    is_let_in = _is_let_in(matrix, hub_key)
    if not is_let_in and not await let_in(folder, address) and not folder.key_of(address).exists():
        raise KeyFault(
            f"the hub does not know {address} yet; where the hub runs say `orchestra invite {address}`, "
            "and here, in this clone: orchestra join -"
        )
    try:
        client = await aio.connect(state=folder.path, address=str(address), patience_s=patience_s)
    except KeyRefused as exc:
        raise KeyRefused(f"{exc}; an operator can let it in again: orchestra invite {address}") from exc
    if not is_let_in:
        _note_let_in(matrix, hub_key)
    return client


async def let_in(folder: StateFolder, address: Address) -> bool:
    """Make a key for a matrix of this machine and let it in; False where this user can't.

    Raises:
        HubUnreachable: if no hub answers.
    """
    if not folder.key_of(this_operator()).exists():
        return False
    await enrol_here(folder, address)
    _note_let_in(Matrix(address, folder), folder.read_card().public_key)
    return True


def _is_let_in(matrix: Matrix, hub_key: str) -> bool:
    try:
        return matrix.let_in.read_text(encoding="ascii") == hub_key
    except FileNotFoundError:
        return False


def _note_let_in(matrix: Matrix, hub_key: str) -> None:
    matrix.let_in.parent.mkdir(mode=0o700, exist_ok=True)
    matrix.let_in.write_text(hub_key, encoding="ascii")
