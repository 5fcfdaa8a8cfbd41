"""The hub's own key files: its CURVE key, the next one while it waits, and the key that tokens are signed with."""

from __future__ import annotations

import os

from zmq.utils import z85

from orchestra.keys import (
    KeyPair,
    is_sealed,
    load_key,
    load_or_make_key,
    make_key_pair,
    make_signing_pair,
    replace_key,
    save_key,
)
from orchestra.passphrase import passphrase
from orchestra.state import StateFolder
from orchestra.token import TokenKey

from .tokens import Signer

_OWNER = "the hub"
_SIGNER = "the hub, for tokens"


def load_hub_key(state: StateFolder) -> KeyPair:
    """Return the hub's key, made at the first start."""
    return load_or_make_key(state.hub_key, owner=_OWNER)


def load_signer(state: StateFolder) -> Signer:
    """Return the hub's signer; its key is made at the first start. The key before it still verifies.

    Raises:
        KeyFault: as `load_key`.
    """
    pair = load_or_make_key(state.signing_key, owner=_SIGNER, make=make_signing_pair)
    old = state.signing_key.with_name(f"{state.signing_key.name}.old")
    previous = (z85.decode(load_key(old).public),) if old.exists() else ()
    return Signer(TokenKey(z85.decode(pair.secret)), previous, os.urandom)


def next_hub_key(state: StateFolder) -> KeyPair:
    """Return the hub's next key, made now if there is none; sealed with the same passphrase if the hub's key is.

    Raises:
        KeyFault: if the folder can't be written.
    """
    path = state.next_hub_key
    if not path.exists():
        word = passphrase(f"key file {state.hub_key}") if is_sealed(state.hub_key) else None
        save_key(path, make_key_pair(), owner=f"{_OWNER}, the next one", word=word)
    return load_key(path)


def take_over(state: StateFolder) -> KeyPair:
    """Put the next key in the place of the hub's, and make a new one for tokens; return the hub's.

    Safe to repeat where it was interrupted. Of the old CURVE key nothing is kept: nobody may come with it any more.
    """
    if state.next_hub_key.exists():
        pair = load_key(state.next_hub_key)
        replace_key(state.hub_key, pair, owner=_OWNER)
        replace_key(state.signing_key, make_signing_pair(), owner=_SIGNER)
        state.next_hub_key.unlink()
        state.hub_key.with_name(f"{state.hub_key.name}.old").unlink(missing_ok=True)
    return load_key(state.hub_key)
