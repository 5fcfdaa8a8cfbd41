"""The key that tokens are signed with, from the state folder."""

from __future__ import annotations

import os

from zmq.utils import z85

from orchestra.keys import load_key, load_or_make_key, make_signing_pair
from orchestra.state import StateFolder
from orchestra.token import TokenKey

from .tokens import Signer


def load_signer(state: StateFolder) -> Signer:
    """Return the hub's signer; its key is made at the first start. A key that was replaced still verifies.

    Raises:
        KeyFault: as `load_key`.
    """
    pair = load_or_make_key(state.signing_key, owner="the hub, for tokens", make=make_signing_pair)
    old = state.signing_key.with_name(f"{state.signing_key.name}.old")
    previous = (z85.decode(load_key(old).public),) if old.exists() else ()
    return Signer(TokenKey(z85.decode(pair.secret)), previous, os.urandom)
