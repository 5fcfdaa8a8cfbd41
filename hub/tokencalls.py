"""CALLs about tokens: who may make, see and revoke which. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestra.errors import BadOption, NotAllowed, RateLimited
from orchestra.limits import LIST_ROWS_MAX, TOKENS_AN_HOUR_MAX

from . import grants
from .hubstate import unknown
from .roster import Peer, Session
from .tokens import WITHDRAWN

if TYPE_CHECKING:
    from .calls import Asked

Params = dict[str, Any]


def create(asked: Asked) -> Params:
    """Every peer makes tokens for itself, who administers for others too; a token makes none."""
    _check_key(asked)
    _meter(asked)
    peer = _peer(asked)
    params = asked.params
    given = grants.parse_grants(params["grants"]) if "grants" in params else None
    _check_has(peer, given or ())
    text, token, until_ms = asked.decider.tokens.create(
        peer,
        by=asked.session.peer.text,
        ttl_ms=params["ttl_ms"],
        is_url=params.get("url", False),
        given=given,
        turn=asked.turn,
    )
    return {
        "token": text,
        "id": token.id,
        "address": token.address,
        "expires_ms": until_ms,
        "ends_ms": token.ends_ms,
        "grants": list(grants.of(peer) if given is None else given),
    }


def code(asked: Asked) -> Params:
    """A one-time code that signs the caller in at the gateway."""
    _check_key(asked)
    _meter(asked)
    peer = asked.session.peer
    made, until_ms = asked.decider.tokens.code(peer, now_ms=asked.turn.now_ms)
    gateway = asked.decider.facts.get("gateway")
    url = f"{gateway}/signin?code={made}" if gateway else ""
    return {"code": made, "url": url, "address": peer.text, "expires_ms": until_ms}


def listed(asked: Asked) -> Params:
    """The caller's tokens; of who administers, everybody's, or those of one peer."""
    is_all = "address" not in asked.params and grants.allows(asked.session.rights, grants.ADMINISTER)
    text = "" if is_all else _peer(asked).text
    found = [token for token in asked.decider.tokens.all.values() if text in ("", token.address)]
    found.sort(key=lambda token: token.made_ms)
    open_now = Counter(session.token.token_id for session in _sessions(asked) if session.token is not None)
    shown = [
        {**asdict(token), "grants": _listed(token.grants), "sessions": open_now[token.id]}
        for token in found[-LIST_ROWS_MAX:]
    ]
    return {"tokens": shown, "is_cut": len(shown) < len(found)}


def revoke(asked: Asked) -> Params:
    """One token by its id, or all of a peer until now."""
    params, decider = asked.params, asked.decider
    if ("id" in params) is ("address" in params):
        raise BadOption("name either the id of a token, or the address whose tokens are meant")
    by, now_ms = asked.session.peer.text, asked.turn.now_ms
    if "address" in params:
        peer = _peer(asked)
        ended = decider.tokens.revoke_all(peer, by=by, now_ms=now_ms)
        text = peer.text
    else:
        token = decider.tokens.all.get(params["id"])
        text = token.address if token is not None else ""
        if text != by:
            grants.check(asked.session.rights, grants.ADMINISTER)
        ended = decider.tokens.revoke(params["id"], by=by, now_ms=now_ms)
    decider.end_tokens(ended, WITHDRAWN, asked.turn)
    return {"address": text}


def _sessions(asked: Asked) -> Iterable[Session]:
    return asked.decider.state.roster.sessions.values()


def _peer(asked: Asked) -> Peer:
    """Return the peer that is meant, if the caller may speak for it."""
    text = asked.params.get("address", asked.session.peer.text)
    if text != asked.session.peer.text:
        grants.check(asked.session.rights, grants.ADMINISTER)
    peer = asked.decider.state.roster.peers.get(text)
    if peer is None:
        raise unknown(text)
    return peer


def _check_key(asked: Asked) -> None:
    if asked.session.token is not None:  # it would outlive its own end
        raise NotAllowed("a token makes no tokens and no codes; connect with a key for that")


def _meter(asked: Asked) -> None:
    """Bound how much of the audit log a peer may fill that does not administer."""
    if grants.allows(asked.session.rights, grants.ADMINISTER):
        return
    rate, peer = TOKENS_AN_HOUR_MAX / 3600, asked.session.peer
    wait_s = peer.tokens.take(rate=rate, burst_s=3600, at_ms=asked.turn.at_ms)
    if wait_s:
        raise RateLimited(f"{peer.text} may make {TOKENS_AN_HOUR_MAX} tokens an hour; try again in {wait_s:.0f} s")


def _check_has(peer: Peer, given: tuple[str, ...]) -> None:
    """Refuse a grant of which the peer has nothing: it would be promised in vain."""
    has = {grant.partition(":")[0] for grant in grants.of(peer)}
    for grant in given:
        if grant.partition(":")[0] not in has:
            raise NotAllowed(f"{peer.text} itself may not {grant}, so no token of it may")


def _listed(given: str | None) -> list[str] | None:
    return None if given is None else given.split()
