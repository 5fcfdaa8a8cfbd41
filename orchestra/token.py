"""Tokens: who may connect to the gateway as which peer, until when, and with which grants. Pure.

The format is PASETO v4.public (paseto.io, "Version 4"): `v4.public.` + base64url(claims, signature) + `.` +
base64url(footer). The signature is Ed25519 (libsodium, through PyNaCl) over the pre-authentication encoding of header,
claims, footer and an empty implicit assertion. There is one algorithm, so a token can't choose a weaker one. The footer
names the key that signed, by its PASERK id (`k4.pid.…`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nacl.bindings import (
    crypto_sign_BYTES,
    crypto_sign_PUBLICKEYBYTES,
    crypto_sign_seed_keypair,
    crypto_sign_SEEDBYTES,
)
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from .errors import TokenRefused
from .limits import GRANTS_MAX, TOKEN_CHARS_MAX
from .rfc3339 import read_time, write_time

_HEADER: Final = "v4.public."
_TEXTS: Final = ("sub", "aud", "jti")
_TIMES: Final = ("iat", "exp")
_KNOWN: Final = frozenset((*_TEXTS, *_TIMES, "until", "grants"))


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are milliseconds since 1970.

    Attributes:
        subject: the address of the peer it is for.
        audience: the hub it is for (`sub`, `aud`, `jti`, `iat` and `exp` are PASETO's names).
        token_id: what it is revoked by.
        expires_ms: until when it opens connections; from the hub's own machine until `ends_ms`.
        ends_ms: when what it opened ends; later than `expires_ms` where it travels in a URL.
        grants: all that it may do of what its peer may; None: all of that.
    """

    subject: str
    audience: str
    token_id: str
    issued_ms: int
    expires_ms: int
    ends_ms: int
    grants: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TokenKey:
    """An Ed25519 key pair. The seed never shows in a repr."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        assert len(self.seed) == crypto_sign_SEEDBYTES

    @property
    def public(self) -> bytes:
        return bytes(crypto_sign_seed_keypair(self.seed)[0])

    @property
    def key_id(self) -> str:
        return key_id(self.public)


def key_id(public: bytes) -> str:
    """Return the PASERK id of a public key: `k4.pid.` and a BLAKE2b-264 of it (PASERK, "pid")."""
    assert len(public) == crypto_sign_PUBLICKEYBYTES
    named = f"k4.public.{_encode(public)}"
    return "k4.pid." + _encode(hashlib.blake2b(f"k4.pid.{named}".encode(), digest_size=33).digest())


def sign(claims: Claims, key: TokenKey) -> str:
    """Return the token that says `claims`, signed with `key`."""
    said: dict[str, Any] = {
        "sub": claims.subject,
        "aud": claims.audience,
        "jti": claims.token_id,
        "iat": write_time(claims.issued_ms),
        "exp": write_time(claims.expires_ms),
    }
    if claims.ends_ms != claims.expires_ms:
        said["until"] = write_time(claims.ends_ms)
    if claims.grants is not None:
        said["grants"] = list(claims.grants)
    payload, footer = _json(said), _json({"kid": key.key_id})
    signature = SigningKey(key.seed).sign(_signed(payload, footer)).signature
    return f"{_HEADER}{_encode(payload + signature)}.{_encode(footer)}"


def open_token(text: str, keys: Mapping[str, bytes]) -> Claims:
    """Return what a token says, if one of `keys` (key id → public key) signed it. Times and audience are not judged.

    Raises:
        TokenRefused: if it is no token, was changed, or was signed by another key. The text never holds the token.
    """
    payload, signature, footer = _parts(text)
    named = _object(footer, "footer").get("kid")
    public = keys.get(named) if type(named) is str else None
    if public is None:
        raise TokenRefused("this token was signed by another hub, or with a key that was replaced; make a new one")
    try:
        VerifyKey(public).verify(_signed(payload, footer), signature)
    except CryptoError:
        raise TokenRefused("this token was changed: its signature is wrong; copy it again, whole") from None
    return _claims(_object(payload, "claims"))


def _parts(text: str) -> tuple[bytes, bytes, bytes]:
    """Return claims, signature and footer."""
    if len(text) > TOKEN_CHARS_MAX:
        raise TokenRefused(f"a token has at most {TOKEN_CHARS_MAX} characters; this one has {len(text)}")
    pieces = text.removeprefix(_HEADER).split(".")
    if not text.startswith(_HEADER) or len(pieces) != 2:
        raise TokenRefused(f"this is no token: one begins with {_HEADER} and is made by: orchestra token create")
    body, footer = (_decode(piece) for piece in pieces)
    if len(body) <= crypto_sign_BYTES:
        raise TokenRefused("this token is cut; copy it again, whole")
    return body[:-crypto_sign_BYTES], body[-crypto_sign_BYTES:], footer


def _claims(said: dict[str, Any]) -> Claims:
    unknown = said.keys() - _KNOWN
    if unknown:  # a newer hub may have meant it as a restriction
        raise TokenRefused("this token has claims that this hub does not know; make a new one")
    grants = said.get("grants")
    try:
        subject, audience, token_id = (_text(said[name]) for name in _TEXTS)
        issued_ms, expires_ms = (read_time(_text(said[name])) for name in _TIMES)
        ends_ms = read_time(_text(said["until"])) if "until" in said else expires_ms
        if grants is not None and (type(grants) is not list or len(grants) > GRANTS_MAX):
            raise ValueError("no list of grants")
        given = None if grants is None else tuple(_text(each) for each in grants)
    except (KeyError, ValueError):
        raise TokenRefused("this token has no claims that this hub understands; make a new one") from None
    return Claims(subject, audience, token_id, issued_ms, expires_ms, ends_ms, given)


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("no text")
    return value


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data.decode())
    except (ValueError, RecursionError):
        found = None
    if type(found) is not dict:
        raise TokenRefused(f"this is no token of a hub: its {what} can't be read")
    return found


def _signed(payload: bytes, footer: bytes) -> bytes:
    return pre_auth(_HEADER.encode(), payload, footer, b"")


def pre_auth(*pieces: bytes) -> bytes:
    """PASETO's pre-authentication encoding: the count and each length, as 64 bits, before what they are of."""
    return len(pieces).to_bytes(8, "little") + b"".join(len(each).to_bytes(8, "little") + each for each in pieces)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Decode base64url without padding; one text only stands for the same bytes."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        data = b""
    if not data or _encode(data) != text:
        raise TokenRefused("this token is damaged; copy it again, whole")
    return data
