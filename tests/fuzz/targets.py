"""What is fuzzed: a function for each parser, which fails on all but its documented errors, and inputs to begin with.

Whatever a parser takes has to be said again as it came, so a fuzzer finds also what two readers would understand
differently. Seeds are made by the code that writes what the parser reads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nacl.signing import SigningKey

from orchestra import token as tokens
from orchestra.address import parse_peer
from orchestra.errors import BadOption, Malformed, PeerError, TokenRefused, TooLarge
from orchestra.hub.vocabulary import read_message, write_message
from orchestra.invitation import Invitation, decode_invitation
from orchestra.keys import make_key_pair
from orchestra.limits import TOKEN_CHARS_MAX
from orchestra.state import HubCard
from orchestra.token import Claims, TokenKey, open_token, sign
from orchestra.wire import FROM_HUB, FROM_PEER, INT_MAX, VERBS, Decoder, Shape, encode, pack

_EXAMPLES: Final[dict[type, Any]] = {
    int: 7,
    str: "queue/q",
    bytes: b"body",
    list: [[1, 2]],
    dict: {"key": "k"},
    type(None): None,
}
_CODE_CHARS_MAX: Final = 2000
_TOKEN_KEY: Final = TokenKey(bytes(range(32)))
_KEYS: Final = {_TOKEN_KEY.key_id: _TOKEN_KEY.public}
_CLAIMS: Final = Claims(
    subject="operator/me",
    audience="hub-1",
    token_id="0011223344556677",
    issued_ms=1_700_000_000_000,
    expires_ms=1_700_000_060_000,
    ends_ms=1_700_000_090_000,
)


@dataclass(frozen=True, slots=True)
class Target:
    """`run` takes any bytes, and raises nothing where all is well. `seeds` are inputs that lead far into the parser."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    length_max: int


def decode(shapes: dict[int, Shape], data: bytes) -> None:
    """Decode a frame; what was taken has the shape of its verb, and says the same when it is said again."""
    decoder = Decoder(shapes)
    try:
        records, faults = decoder.decode(data)
    except (Malformed, TooLarge):
        return
    for fault in faults:
        assert isinstance(fault.error, PeerError)
        assert fault.error.code
        assert 0 <= fault.ref <= INT_MAX
    for record in records:
        assert len(record) == len(shapes[record[0]].fields)
    again: list[Any] = []
    for frame in encode(records):
        taken, refused = decoder.decode(frame)
        assert not refused
        again += taken
    assert pack(again) == pack(records)  # NaN is not equal to itself


def join_code(data: bytes) -> None:
    """Read the code of an invitation; what was taken is what its own code says."""
    try:
        invitation = decode_invitation(data.decode("utf-8", "surrogateescape"))
    except BadOption:
        return
    if len(code := invitation.encode()) <= _CODE_CHARS_MAX:
        assert decode_invitation(code) == invitation
    assert invitation.secret not in repr(invitation)


def token(data: bytes) -> None:
    """Open a token; none is taken that this key did not sign."""
    try:
        claims = open_token(data.decode("utf-8", "surrogateescape"), _KEYS)
    except TokenRefused:
        return
    assert claims == _CLAIMS, "a token was forged"


def claims(data: bytes) -> None:
    """Open a token whose signature is right and whose claims are anything: what a newer or broken hub might sign."""
    footer = json.dumps({"kid": _TOKEN_KEY.key_id}).encode()
    head = b"v4.public."
    signature = SigningKey(_TOKEN_KEY.seed).sign(tokens.pre_auth(head, data, footer, b"")).signature
    text = f"{head.decode()}{_base64(data + signature)}.{_base64(footer)}"
    try:
        found = open_token(text, _KEYS)
    except TokenRefused:
        return
    if len(again := sign(found, _TOKEN_KEY)) <= TOKEN_CHARS_MAX:
        assert open_token(again, _KEYS) == found


def message(data: bytes) -> None:
    """Read what a client of the gateway says; what was taken can be written as JSON for any other client."""
    try:
        found = read_message(data.decode("utf-8", "replace"))
    except Malformed:
        return
    json.loads(write_message(found), parse_constant=_fail)


def _fail(name: str) -> None:
    raise AssertionError(f"{name} was taken for a number")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _frames(shapes: dict[int, Shape]) -> tuple[bytes, ...]:
    """One frame for each verb, and one with all."""
    records = [
        [verb, *(_EXAMPLES[kind[0] if isinstance(kind, tuple) else kind] for kind in shape.fields[1:])]
        for verb, shape in shapes.items()
    ]
    assert {record[0] for record in records} <= set(VERBS)
    return (*(pack([record]) for record in records), pack(records))


_INVITATION: Final = Invitation(
    parse_peer("agent/coder-1"),
    HubCard(("tcp://10.0.0.7:7420", "tcp://[fe80::1]:7420"), make_key_pair().public),
    make_key_pair().secret,
)

TARGETS: Final[dict[str, Target]] = {
    "decoder of peers' records": Target(lambda data: decode(FROM_PEER, data), _frames(FROM_PEER), 4096),
    "decoder of the hub's records": Target(lambda data: decode(FROM_HUB, data), _frames(FROM_HUB), 4096),
    "join code": Target(join_code, (_INVITATION.encode().encode(), b"orc1-"), _CODE_CHARS_MAX + 10),
    "token": Target(token, (sign(_CLAIMS, _TOKEN_KEY).encode(), b"v4.public."), TOKEN_CHARS_MAX + 10),
    "claims of a token": Target(
        claims,
        tuple(
            json.dumps(said).encode()
            for said in (
                dict.fromkeys(("sub", "aud", "jti"), "a") | dict.fromkeys(("iat", "exp"), "2026-01-01T00:00:00Z"),
                {"grants": ["send:*"], "until": "2026-01-01T00:00:00.123+02:00"},
            )
        ),
        2048,
    ),
    "message of the gateway": Target(
        message, (b'{"type":"task","content":"hi"}', b'{"type":"ping","n":[1.5e3,-0,{"a":null}]}'), 4096
    ),
}
