"""Invitations: a short code that lets one new peer enrol its key.

The code holds where the hub is, the hub's public key, and the secret half of a one-time CURVE key that may do nothing
but enrol. Nothing else on the way is secret: the key pair of the new peer is made on its own machine.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

import msgpack
import zmq
from zmq.utils import z85

from .address import Address, parse_peer
from .errors import BadAddress, BadOption
from .keys import KeyPair, is_public_key
from .state import HubCard
from .wire import pack

_PREFIX: Final = "orc1-"  # says what it is, and in which version
_TCP: Final = "tcp://"  # an invitation is for another machine
_CODE_CHARS_MAX: Final = 2000
_ENDPOINTS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invitation's code holds. `address` is who may join; the hub's own record of it decides."""

    address: Address
    card: HubCard
    secret: str = field(repr=False)

    @property
    def key(self) -> KeyPair:
        """The one-time key pair."""
        return KeyPair(zmq.curve_public(self.secret.encode()).decode(), self.secret)

    def encode(self) -> str:
        """Return the code, without any character that a shell or a chat program would change.

        It has about 130 characters, and 60 more while the hub's next key waits.
        """
        fields = [
            str(self.address),
            [endpoint.removeprefix(_TCP) for endpoint in self.card.endpoints],
            z85.decode(self.card.public_key),
            z85.decode(self.secret),
            *([z85.decode(self.card.next_public_key)] if self.card.next_public_key else []),
        ]
        return _PREFIX + base64.urlsafe_b64encode(pack(fields)).rstrip(b"=").decode()


def decode_invitation(code: str) -> Invitation:
    """Read a code.

    Raises:
        BadOption: if it is none, or was cut or changed on the way.
    """
    text = "".join(code.split())  # a code that was wrapped in a mail is whole
    if not text.startswith(_PREFIX) or len(text) > _CODE_CHARS_MAX:
        raise BadOption(f"this is no invitation; its code begins with {_PREFIX} and is made by: orchestra invite")
    packed = text.removeprefix(_PREFIX)
    try:
        fields = msgpack.unpackb(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        address, endpoints, hub_key, secret, *rest = fields
        if type(address) is not str or type(endpoints) is not list:
            raise ValueError("no address")
        invitation = Invitation(
            parse_peer(address),
            HubCard(tuple(_endpoint(each) for each in endpoints[:_ENDPOINTS_MAX]), *map(_half, (hub_key, *rest[:1]))),
            _half(secret),
        )
    except (ValueError, TypeError, binascii.Error, RecursionError, BadAddress, msgpack.UnpackException) as exc:
        raise BadOption("this invitation's code is damaged; copy it again, whole") from exc
    if not invitation.card.endpoints:
        raise BadOption("this invitation names no hub; ask for another")
    return invitation


def _endpoint(text: object) -> str:
    if type(text) is not str or not text.isprintable() or ":" not in text:
        raise ValueError("no endpoint")
    return _TCP + text


def _half(key: object) -> str:
    if type(key) is not bytes or len(key) != 32:
        raise ValueError("no key")
    found = z85.encode(key).decode()
    assert is_public_key(found)
    return found
