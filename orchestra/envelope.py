"""Sealed messages: a body that only the recipient's keys open, so that the hub stores and routes what it cannot read.

The body is encrypted once with a random key (libsodium's SecretBox), and that key for each key of the recipient
(libsodium's Box, which proves the sender's key to who opens it). The keys are the CurveZMQ keys that peers have anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgpack
from zmq.utils import z85

from .errors import BadOption, CannotOpen
from .keys import KeyPair, fingerprint
from .limits import KEYS_PER_PEER_MAX
from .wire import pack

_VERSION = 1


def close_envelope(body: bytes, *, sender: KeyPair, recipients: Iterable[str]) -> bytes:
    """Seal `body` for the public keys `recipients` (Z85).

    Raises:
        BadOption: if there are none, or too many.
    """
    from nacl.public import Box, PrivateKey, PublicKey
    from nacl.secret import SecretBox
    from nacl.utils import random

    keys = list(recipients)
    if not 0 < len(keys) <= KEYS_PER_PEER_MAX:
        raise BadOption(f"the recipient has {len(keys)} keys to seal for; 1 to {KEYS_PER_PEER_MAX} can be")
    mine, once = PrivateKey(z85.decode(sender.secret)), random(SecretBox.KEY_SIZE)
    slots = [[z85.decode(key), bytes(Box(mine, PublicKey(z85.decode(key))).encrypt(once))] for key in keys]
    return pack([_VERSION, z85.decode(sender.public), slots, bytes(SecretBox(once).encrypt(body))])


def open_envelope(sealed: bytes, *, key: KeyPair) -> tuple[bytes, str]:
    """Return the body, and the fingerprint of the key that sealed it.

    Raises:
        CannotOpen: if it was sealed for other keys, or was changed.
    """
    from nacl.exceptions import CryptoError
    from nacl.public import Box, PrivateKey, PublicKey
    from nacl.secret import SecretBox

    try:
        version, sender, slots, box = msgpack.unpackb(sealed)
        if version != _VERSION:
            raise CannotOpen(f"it was sealed in version {version} of the format; upgrade agent-orchestra")
        mine = z85.decode(key.public)
        wrapped = next((each[1] for each in slots if each[0] == mine), None)
        if wrapped is None:
            raise CannotOpen("it was sealed for another key of this peer")
        once = Box(PrivateKey(z85.decode(key.secret)), PublicKey(sender)).decrypt(wrapped)
        return SecretBox(once).decrypt(box), fingerprint(z85.encode(sender).decode())
    except (CryptoError, ValueError, TypeError, IndexError, KeyError, msgpack.UnpackException) as exc:
        raise CannotOpen("it was changed on its way, or is no sealed message") from exc
