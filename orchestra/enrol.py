"""Letting a peer of this machine in: its key is made here and accepted by this user's operator key.

Only who can read the operator's key file can do it, and that is who could do anything to this hub anyway.
"""

from __future__ import annotations

from . import aio
from .address import Address
from .keys import KeyPair, load_key, load_or_make_key
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
