"""Enrolment: which keys are let in, and the invitations by which new ones come to be. Pure.

An invitation is a one-time key of its own. Whoever connects with it may say one thing: `CALL enrol` with the public
half of a key pair made on the new machine. It gets no session and sees nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestra.address import Address, parse_address
from orchestra.errors import BadOption, HubFull, InvitationOver, NotAllowed, NotFound, PeerError
from orchestra.keys import fingerprint, is_public_key
from orchestra.limits import (
    INVITATION_S_MAX,
    INVITATION_USES_MAX,
    INVITATIONS_MAX,
    KEY_OVERLAP_S_MAX,
    KEYS_PER_PEER_MAX,
    PENDING_KEYS_MAX,
)
from orchestra.wire import CALL, ERROR, REPLY, Record

from .audit import Audit
from .hubstate import HubState
from .turn import Link, Turn

if TYPE_CHECKING:
    from .roster import Peer
    from .snapshot import Snapshot

_INVITED: Final = "invitation "
_REVOKED: Final = -1  # uses left: it is kept for a while, so that it can say so
_KEPT_MS: Final = 7 * 86_400_000  # so long one that is over can still say so


class Stranger(NamedTuple):
    """Who tried to connect with a key that is not known: the key, and its IP address; "" is a Unix socket."""

    public: str
    source: str


@dataclass(slots=True)
class Invite:
    """An invitation as the hub knows it: never its secret half. Times are milliseconds since 1970."""

    public: str
    address: str
    uses_left: int
    expires_ms: int
    made_ms: int
    made_by: str
    grants: str = ""
    """Parted by spaces; empty: those of the kind."""

    @property
    def is_revoked(self) -> bool:
        return self.uses_left == _REVOKED


class Enrolment:
    """The keys that are let in, and the invitations."""

    def __init__(self, state: HubState, snapshot: Snapshot, audit: Audit) -> None:
        self._state = state
        self._audit = audit
        self.invites = {invite.public: invite for invite in snapshot.invites}
        self.key_ends = dict(snapshot.key_ends)
        """Public key → until when it is let in: it was replaced."""
        self.pending: dict[str, tuple[str, int]] = {}
        """Unknown public key → (where it came from, when it came last): somebody may accept it. Until a restart."""
        self._rejected: dict[str, None] = {}

    def identity_of(self, public_key: str) -> str | None:
        """Return what a connection with this key is stamped with, or None to refuse it."""
        text = self._state.keys.get(public_key)
        if text is not None:
            return f"{text} {public_key}"
        return _INVITED + public_key if public_key in self.invites else None

    @staticmethod
    def is_invited(identity: str) -> bool:
        """Whether a connection came with an invitation instead of a peer's key."""
        return identity.startswith(_INVITED)

    def invite(
        self,
        by: str,
        address: Address,
        public_key: str,
        *,
        ttl_ms: int,
        uses: int,
        given: tuple[str, ...],
        turn: Turn,
    ) -> Invite:
        """Let whoever has the secret half of `public_key` enrol as `address`.

        Raises:
            BadOption, NotAllowed: if that can't be.
            HubFull: if too many invitations are open.
        """
        if not is_public_key(public_key):
            raise BadOption("public_key must be a CurveZMQ public key: 40 characters of Z85")
        if public_key in self._state.keys or public_key in self.invites:
            raise NotAllowed("this key is in use already; an invitation needs a key of its own")
        if not 0 < ttl_ms <= INVITATION_S_MAX * 1000:
            raise BadOption(f"ttl_ms must be 1 to {INVITATION_S_MAX * 1000:.0f}")
        if not 0 < uses <= INVITATION_USES_MAX:
            raise BadOption(f"uses must be 1 to {INVITATION_USES_MAX}")
        self._forget_old(turn.now_ms)
        if len(self.invites) >= INVITATIONS_MAX and not self._forget_over(turn.now_ms):
            raise HubFull(f"{INVITATIONS_MAX} invitations are open; revoke some: orchestra keys list")
        invite = Invite(public_key, str(address), uses, turn.now_ms + ttl_ms, turn.now_ms, by, " ".join(given))
        self.invites[public_key] = invite
        self._state.writes.invites[public_key] = invite
        often = "once" if uses == 1 else f"{uses} times"
        detail = f"{fingerprint(public_key)}, {often} in {ttl_ms // 1000} s"
        self._audit.note("invited", by=by, about=invite.address, detail=detail, now_ms=turn.now_ms)
        return invite

    def accept(self, by: str, address: Address, public_key: str, *, now_ms: int, instead_of: str = "") -> None:
        """Let `public_key` in as `address`, maybe instead of an older key; the same again changes nothing.

        Raises:
            BadOption: if it is no key.
            NotAllowed: if it proves another address already.
        """
        if not is_public_key(public_key):
            raise BadOption("public_key must be a CurveZMQ public key: 40 characters of Z85")
        if public_key in self.invites:
            raise NotAllowed("this is the key of an invitation; make a new key pair")
        self.pending.pop(public_key, None)
        if self._state.keys.get(public_key) != str(address):
            self._state.add_peer(address, public_key, now_ms=now_ms)
            action, detail = "accepted", fingerprint(public_key)
            if instead_of:
                action, detail = "replaced", f"{fingerprint(instead_of)} by {detail}"
            self._audit.note(action, by=by, about=str(address), detail=detail, now_ms=now_ms)

    def grant(self, by: str, peer: Peer, given: tuple[str, ...] | None, *, now_ms: int) -> None:
        """Let `peer` do what `given` says; None is what its kind may."""
        peer.grants = given
        self._state.writes.peers[peer.id] = peer
        detail = "what its kind may" if given is None else " ".join(given) or "nothing"
        self._audit.note("granted", by=by, about=peer.text, detail=detail, now_ms=now_ms)

    def knocked(self, strangers: list[Stranger], *, holds_all: bool, now_ms: int) -> None:
        """Hold unknown keys as pending: those of this machine, and others where the hub was told to."""
        for public, source in strangers:
            is_near = ipaddress.ip_address(source).is_loopback if source else True
            if public in self._rejected or not (is_near or holds_all):
                continue
            if public in self.pending or len(self.pending) < PENDING_KEYS_MAX:
                self.pending[public] = (source, now_ms)

    def reject(self, by: str, public_key: str, *, now_ms: int) -> None:
        """Hold a pending key no more, nor when it comes again.

        Raises:
            NotFound: if it is not pending.
        """
        if self.pending.pop(public_key, None) is None:
            raise NotFound("this key is not pending; see: orchestra keys list")
        while len(self._rejected) >= PENDING_KEYS_MAX:
            del self._rejected[next(iter(self._rejected))]
        self._rejected[public_key] = None
        self._audit.note("rejected", by=by, about="", detail=fingerprint(public_key), now_ms=now_ms)

    def rotate(self, text: str, old: str, new: str, *, overlap_ms: int, now_ms: int) -> int:
        """Let `new` in beside `old`, which ends after the overlap; return when, in ms since 1970.

        Raises:
            BadOption, NotAllowed: if `new` can't be a key of this peer.
            HubFull: if it has as many keys as it may make by itself.
        """
        if not 0 <= overlap_ms <= KEY_OVERLAP_S_MAX * 1000:
            raise BadOption(f"overlap_ms must be 0 to {KEY_OVERLAP_S_MAX * 1000:.0f}")
        if new == old:
            raise BadOption("public_key is the one in use; make a new key pair")
        mine = sum(1 for owner in self._state.keys.values() if owner == text)
        if mine >= KEYS_PER_PEER_MAX and new not in self._state.keys:
            raise HubFull(f"{text} has {mine} keys; let an operator revoke some first: orchestra keys list")
        self.accept(text, parse_address(text), new, now_ms=now_ms, instead_of=old)
        self.key_ends[old] = self._state.writes.key_ends[old] = now_ms + overlap_ms
        return now_ms + overlap_ms

    def ended(self, now_ms: int) -> list[str]:
        """Return the keys that were replaced, and whose overlap is over."""
        return [public for public, until_ms in self.key_ends.items() if until_ms <= now_ms]

    def receive(self, link: Link, identity: str, records: list[Record], turn: Turn) -> list[Peer]:
        """Decide what somebody with an invitation says; whatever it is, the connection ends with the answer.

        Return the peers who may do something else from now on.
        """
        changed: list[Peer] = []
        for record in records:
            try:
                turn.send(link, [REPLY, record[1], self._enrol(identity, record, changed, turn)])
            except PeerError as error:
                ref = record[1] if record[0] == CALL else 0
                turn.send(link, [ERROR, record[0], ref, error.code, str(error)])
        turn.kicks.append(link)
        return changed

    def revoke(self, by: str, public_key: str, *, now_ms: int) -> str:
        """Let a key or an invitation in no more; return whose it was.

        Raises:
            NotFound: if it is not known.
            NotAllowed: if it is the last operator's.
        """
        invite = self.invites.get(public_key)
        if invite is not None and not invite.is_revoked:
            invite.uses_left = _REVOKED
            self._state.writes.invites[public_key] = invite
            self._audit.note("uninvited", by=by, about=invite.address, detail=fingerprint(public_key), now_ms=now_ms)
            return invite.address
        text = self._state.keys.get(public_key)
        if text is None:
            raise NotFound("this key is not known; see: orchestra keys list")
        if text.startswith("operator/") and sum(1 for other in self._state.keys.values() if other == text) == 1:
            operators = {other for other in self._state.keys.values() if other.startswith("operator/")}
            if operators == {text}:
                raise NotAllowed(f"this is the last key of the last operator, {text}; invite another operator first")
        del self._state.keys[public_key]
        self.key_ends.pop(public_key, None)
        self._state.writes.revoked.append(public_key)
        self._audit.note("revoked", by=by, about=text, detail=fingerprint(public_key), now_ms=now_ms)
        return text

    def revoke_made_by(self, text: str, *, by: str, now_ms: int) -> None:
        """Revoke the open invitations that `text` made."""
        for invite in list(self.invites.values()):
            if invite.made_by == text and invite.uses_left > 0 and now_ms < invite.expires_ms:
                self.revoke(by, invite.public, now_ms=now_ms)

    def _enrol(self, identity: str, record: Record, changed: list[Peer], turn: Turn) -> dict[str, Any]:
        if record[0] != CALL or record[2] != "enrol":
            raise NotAllowed("an invitation may do nothing but enrol a key; run: orchestra join")
        public_key = record[3].get("public_key")
        if type(public_key) is not str or not is_public_key(public_key):
            raise BadOption("public_key must be a CurveZMQ public key: 40 characters of Z85")
        invite = self.invites.get(identity.removeprefix(_INVITED))
        if invite is None:
            raise InvitationOver("this invitation is over; ask for another")
        if self._state.keys.get(public_key) != invite.address:  # else it joined before, and lost the answer
            if invite.is_revoked:
                raise InvitationOver("this invitation was revoked; ask for another")
            if turn.now_ms >= invite.expires_ms:
                raise InvitationOver("this invitation has expired; ask for another")
            if not invite.uses_left:
                raise InvitationOver("this invitation was used already; ask for another")
            if public_key in self.invites:
                raise NotAllowed("an invitation's own key can't be enrolled; make a new key pair")
            peer = self._state.add_peer(parse_address(invite.address), public_key, now_ms=turn.now_ms)
            detail = f"{fingerprint(public_key)}, invited by {invite.made_by}"
            if invite.grants:
                peer.grants = tuple(invite.grants.split())
                changed.append(peer)
                self._state.writes.peers[peer.id] = peer
                detail += f", may {invite.grants}"
            self._audit.note("enrolled", by="", about=invite.address, detail=detail, now_ms=turn.now_ms)
            invite.uses_left -= 1
            self._state.writes.invites[invite.public] = invite
        return {"address": invite.address}

    def _forget_old(self, now_ms: int) -> None:
        for public, invite in list(self.invites.items()):
            if invite.expires_ms + _KEPT_MS < now_ms:
                del self.invites[public]
                self._state.writes.invites[public] = None

    def _forget_over(self, now_ms: int) -> bool:
        """Forget the oldest invitation that is over, to make room; False if none is."""
        over = [each for each in self.invites.values() if each.uses_left <= 0 or each.expires_ms <= now_ms]
        if not over:
            return False
        oldest = min(over, key=lambda each: each.made_ms)
        del self.invites[oldest.public]
        self._state.writes.invites[oldest.public] = None
        return True
