"""Tokens of the gateway, and the one-time codes that sign a person in. Pure.

A token makes a session as a key does. How a transport that takes tokens uses this, all of it inside a turn:

1. `admission = decider.tokens.verify(text, now_ms=turn.now_ms, is_url=…, source=…)`. `is_url` where the token came in a
   URL: one that opens connections from everywhere for longer than `TOKEN_URL_S_MAX` is refused there. `source` is the
   address of the other side: from this machine a token opens connections until its end. Raises `TokenRefused` or
   `TokenExpired` (answer 401 before an upgrade); tell `decider.audit.note_bad_token(source, …)` where it came from.
2. Every frame of that connection goes to `decider.receive(link, admission.identity, records, faults, turn)`, HELLO
   first, as from any other transport. The identity is `"operator/me token:ID"`. The session may do what both its peer
   and its token may (`session.rights`).
3. The decider ends the session by itself when its token expires, is revoked, or is older than what its peer was told
   to trust: it owes `BYE token_expired` or `BYE token_refused` and puts the link into `turn.kicks`. No other check is
   needed: a record that comes after the end of its token, before that turn, is answered with the same error.

One more for the gateway: `decider.tokens.sign_in(code, turn)` gives the token for a one-time code (`TokenRefused` if it
was used, expired or never was).

A token is proved by its signature. Of the database it needs two things, both in memory: the tokens that were revoked
before their time, and for each peer the moment before which its tokens count for nothing. The hub never keeps a token,
only what it says; codes are kept as their SHA-256, until they are used or the hub restarts.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from orchestra.errors import BadOption, HubFull, NotFound, TokenExpired, TokenRefused
from orchestra.limits import (
    SIGN_IN_S,
    SIGN_IN_TOKEN_S,
    SIGN_INS_MAX,
    TOKEN_CHARS_MAX,
    TOKEN_S_MAX,
    TOKEN_URL_S_MAX,
    TOKENS_MAX,
    TOKENS_PER_PEER_MAX,
)
from orchestra.token import Claims, TokenKey, key_id, open_token, sign

from .audit import Audit
from .hubstate import HubState
from .turn import Turn

if TYPE_CHECKING:
    from .roster import Peer
    from .snapshot import Snapshot

EXPIRED: Final = TokenExpired("this token has expired; make a new one: orchestra token create")
WITHDRAWN: Final = TokenRefused("this token was revoked; make a new one: orchestra token create")
_MARK: Final = " token:"  # in an identity, between the peer and the token's id
_ID_BYTES: Final = 8
_CODE_BYTES: Final = 16  # nobody guesses one of 2^128


@dataclass(frozen=True, slots=True)
class Signer:
    """The keys that tokens are signed with, and where what must not be guessed comes from."""

    key: TokenKey
    previous: tuple[bytes, ...]
    """Public keys whose tokens are still good."""
    random: Callable[[int], bytes]
    """Gives so many unguessable bytes."""

    def keys(self) -> dict[str, bytes]:
        return {key_id(public): public for public in (self.key.public, *self.previous)}


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the hub remembers it: what it says, never the token. Times are milliseconds since 1970."""

    id: str
    address: str
    made_ms: int
    ends_ms: int
    made_by: str
    grants: str | None
    """Parted by spaces; None: all that its peer may."""
    revoked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What a token that was verified lets in."""

    identity: str
    claims: Claims


class Tokens:
    """The tokens that were made and are not over, and the codes that wait."""

    def __init__(self, state: HubState, snapshot: Snapshot, audit: Audit, signer: Signer) -> None:
        self._state = state
        self._audit = audit
        self.sign_with(signer)
        self._hub = snapshot.hub_uid
        self.all = {token.id: token for token in snapshot.tokens}
        self._floors = dict(snapshot.token_floors)
        """Address id → its tokens from before this moment count for nothing."""
        self._admitted: dict[str, Claims] = {}
        """By identity: those that were verified since the hub started, until they are over."""
        self._codes: dict[bytes, tuple[str, int]] = {}
        """SHA-256 of a code → (whom it signs in, until when)."""

    def sign_with(self, signer: Signer) -> None:
        """Sign with `signer` from now on, and believe what it believes."""
        self._signer = signer
        self._keys = signer.keys()

    # What a transport calls.

    def verify(self, text: str, *, now_ms: int, is_url: bool = False, source: str = "") -> Admission:
        """Return whom a token lets in that came from the address `source`.

        Raises:
            TokenRefused: if it is none of this hub's, was revoked, or its peer is not known (any more).
            TokenExpired: if it opens no connections any more.
        """
        claims = open_token(text, self._keys)
        if claims.audience != self._hub:
            raise TokenRefused("this token is for another hub")
        self._check(claims)
        if now_ms >= claims.ends_ms:
            raise TokenExpired(str(EXPIRED))
        if now_ms >= claims.expires_ms and not _is_near(source):
            raise TokenExpired(
                f"this token opened connections from other machines for {TOKEN_URL_S_MAX:.0f} s, and opens them only "
                "on the hub's own now; connect to localhost there, or make a new one: orchestra token create --url"
            )
        if is_url and claims.expires_ms - claims.issued_ms > TOKEN_URL_S_MAX * 1000:
            raise TokenRefused(
                "a token that opens connections from anywhere until its end comes in no URL, for those end up in logs; "
                "make one with: orchestra token create --url"
            )
        identity = f"{claims.subject}{_MARK}{claims.token_id}"
        self._admitted[identity] = claims
        return Admission(identity, claims)

    def sign_in(self, code: str, turn: Turn) -> str:
        """Return a token for a one-time code; the code is used up.

        Raises:
            TokenRefused: if it was used, has expired, or never was.
            HubFull: if its peer has too many tokens.
        """
        address, until_ms = self._codes.pop(_digest(code), ("", 0))
        if turn.now_ms >= until_ms:
            raise TokenRefused("this code was used already, or has expired; make another: orchestra page")
        peer = self._state.roster.peers.get(address)
        if peer is None:
            raise TokenRefused(f"{address} is not known any more")
        text, token = self._make(peer, by=address, ttl_ms=int(SIGN_IN_TOKEN_S * 1000), given=None, turn=turn)
        self._audit.note("signed_in", by=address, about=address, detail=f"token {token.id}", now_ms=turn.now_ms)
        return text

    # What the decider calls.

    @staticmethod
    def is_token(identity: str) -> bool:
        """Whether a connection came with a token instead of a peer's key."""
        return _MARK in identity

    def admitted(self, identity: str, *, now_ms: int) -> Claims:
        """Return what the token says that a connection was admitted with.

        Raises:
            TokenRefused, TokenExpired: if it is over since.
        """
        claims = self._admitted.get(identity)
        if claims is None:
            raise TokenRefused(str(WITHDRAWN))
        if now_ms >= claims.ends_ms:
            raise TokenExpired(str(EXPIRED))
        return claims

    def ended(self, now_ms: int) -> list[str]:
        """Forget the tokens that are over by now; return the identities of connections that came with one."""
        for token in [token for token in self.all.values() if token.ends_ms <= now_ms]:
            del self.all[token.id]
            self._state.writes.tokens[token.id] = None
        over = [identity for identity, claims in self._admitted.items() if claims.ends_ms <= now_ms]
        for identity in over:
            del self._admitted[identity]
        return over

    def revoke(self, token_id: str, *, by: str, now_ms: int) -> list[str]:
        """Let a token in no more; return the identities of connections that came with it.

        Raises:
            NotFound: if it is not known, over or revoked.
        """
        token = self.all.get(token_id)
        if token is None or token.revoked_ms is not None:
            raise NotFound(f"no token {token_id[:40]} is in use; see: orchestra token list")
        self.all[token_id] = self._state.writes.tokens[token_id] = replace(token, revoked_ms=now_ms)
        self._audit.note("withdrawn", by=by, about=token.address, detail=f"token {token_id}", now_ms=now_ms)
        return self._forget(lambda claims: claims.token_id == token_id)

    def revoke_all(self, peer: Peer, *, by: str, now_ms: int, is_asked: bool = True) -> list[str]:
        """Let none of the tokens in that `peer` has until now, nor those that it made for others; return as `revoke`.

        Also those that the hub does not remember: they were issued before now, and that is enough.
        """
        floor_ms = now_ms + 1  # what was issued within this millisecond is meant too
        self._floors[peer.id] = self._state.writes.token_floors[peer.id] = floor_ms
        mine = [token for token in self.all.values() if token.address == peer.text]
        for token in mine:
            del self.all[token.id]
            self._state.writes.tokens[token.id] = None
        self._codes = {digest: code for digest, code in self._codes.items() if code[0] != peer.text}
        if mine or is_asked:
            self._audit.note("withdrawn", by=by, about=peer.text, detail="all tokens until now", now_ms=now_ms)
        ended = self._forget(lambda claims: claims.subject == peer.text and claims.issued_ms < floor_ms)
        for token in [token for token in self.all.values() if token.made_by == peer.text and token.revoked_ms is None]:
            ended += self.revoke(token.id, by=by, now_ms=now_ms)
        return ended

    # What is asked for.

    def create(
        self, peer: Peer, *, by: str, ttl_ms: int, is_url: bool, given: tuple[str, ...] | None, turn: Turn
    ) -> tuple[str, Token, int]:
        """Make a token for `peer`; return it, what the hub remembers of it, and until when others than this machine may
        open connections with it.

        Raises:
            BadOption: if it would live too long, or be too long.
            HubFull: if there are too many.
        """
        if not 0 < ttl_ms <= TOKEN_S_MAX * 1000:
            raise BadOption(f"ttl_ms must be 1 to {TOKEN_S_MAX * 1000:.0f}")
        expires_in_ms = min(ttl_ms, int(TOKEN_URL_S_MAX * 1000)) if is_url else ttl_ms
        text, token = self._make(peer, by=by, ttl_ms=ttl_ms, given=given, turn=turn, expires_in_ms=expires_in_ms)
        until_ms = token.made_ms + expires_in_ms
        way = f", for a URL, from other machines within {expires_in_ms // 1000} s" if is_url else ""
        may = "" if given is None else f", may {' '.join(given) or 'nothing'}"
        detail = f"token {token.id} for {ttl_ms // 1000} s{way}{may}"
        self._audit.note("issued", by=by, about=peer.text, detail=detail, now_ms=turn.now_ms)
        return text, token, until_ms

    def code(self, peer: Peer, *, now_ms: int) -> tuple[str, int]:
        """Make a one-time code that signs `peer` in; return it, and until when it can be used."""
        code = self._signer.random(_CODE_BYTES).hex()
        while len(self._codes) >= SIGN_INS_MAX:
            del self._codes[next(iter(self._codes))]
        until_ms = now_ms + int(SIGN_IN_S * 1000)
        self._codes[_digest(code)] = peer.text, until_ms
        self._audit.note("code_made", by=peer.text, about=peer.text, detail="to sign in once", now_ms=now_ms)
        return code, until_ms

    def _make(
        self,
        peer: Peer,
        *,
        by: str,
        ttl_ms: int,
        given: tuple[str, ...] | None,
        turn: Turn,
        expires_in_ms: int | None = None,
    ) -> tuple[str, Token]:
        if len(self.all) >= TOKENS_MAX:
            raise HubFull(f"{TOKENS_MAX} tokens are in use; revoke some: orchestra token list")
        if self._count(peer) >= TOKENS_PER_PEER_MAX:
            self._forget_revoked(peer, now_ms=turn.now_ms)
        if self._count(peer) >= TOKENS_PER_PEER_MAX:
            way = f"orchestra token revoke --all {peer.text}"
            raise HubFull(f"{TOKENS_PER_PEER_MAX} tokens of {peer.text} are not over; revoke the oldest, or all: {way}")
        made_ms = max(turn.now_ms, self._floors.get(peer.id, 0))
        token = Token(
            id=self._signer.random(_ID_BYTES).hex(),
            address=peer.text,
            made_ms=made_ms,
            ends_ms=made_ms + ttl_ms,
            made_by=by,
            grants=None if given is None else " ".join(given),
        )
        expires_ms = made_ms + (ttl_ms if expires_in_ms is None else expires_in_ms)
        claims = Claims(peer.text, self._hub, token.id, made_ms, expires_ms, token.ends_ms, given)
        text = sign(claims, self._signer.key)
        if len(text) > TOKEN_CHARS_MAX:
            raise BadOption(
                f"the token would have {len(text)} characters; the limit is {TOKEN_CHARS_MAX}, so use patterns"
            )
        self.all[token.id] = self._state.writes.tokens[token.id] = token
        return text, token

    def _count(self, peer: Peer) -> int:
        return sum(token.address == peer.text for token in self.all.values())

    def _forget_revoked(self, peer: Peer, *, now_ms: int) -> None:
        """Trust no token of `peer` that is older than the oldest in use: the revoked ones of those can be forgotten."""
        mine = [token for token in self.all.values() if token.address == peer.text]
        floor_ms = min((token.made_ms for token in mine if token.revoked_ms is None), default=now_ms + 1)
        for token in mine:
            if token.made_ms < floor_ms:
                del self.all[token.id]
                self._state.writes.tokens[token.id] = None
        self._floors[peer.id] = self._state.writes.token_floors[peer.id] = max(floor_ms, self._floors.get(peer.id, 0))

    def _check(self, claims: Claims) -> None:
        """Refuse what was revoked, and whom nobody knows."""
        peer = self._state.roster.peers.get(claims.subject)
        if peer is None:
            raise TokenRefused(f"{claims.subject[:80]} is not known here (any more)")
        token = self.all.get(claims.token_id)
        if claims.issued_ms < self._floors.get(peer.id, 0) or (token is not None and token.revoked_ms is not None):
            raise TokenRefused(str(WITHDRAWN))

    def _forget(self, is_meant: Callable[[Claims], Any]) -> list[str]:
        ended = [identity for identity, claims in self._admitted.items() if is_meant(claims)]
        for identity in ended:
            del self._admitted[identity]
        return ended


def _is_near(source: str) -> bool:
    """Whether an address is this machine's loopback, also as a socket of IPv6 tells of IPv4 (RFC 4291, 2.5.5.2)."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:  # a connection that is gone has none
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
