"""CALL: everything that is asked of the hub and is not once per message. Pure.

A method answers from memory, or hands a `Query` to the shell, which reads the database after the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from orchestra.address import parse_peer
from orchestra.errors import (
    BadOption,
    HubFull,
    NotAllowed,
    NotAsked,
    NotCancelable,
    NotFound,
    RateLimited,
    UnknownMethod,
)
from orchestra.keys import fingerprint
from orchestra.limits import (
    BODY_BYTES_MAX,
    CALL_BURST_S,
    CALLS_A_SECOND_MAX,
    CALLS_A_TURN_MAX,
    CREDIT_DEFAULT,
    KEYS_PER_PEER_MAX,
    LIST_ROWS_MAX,
    REPLY_BYTES_MAX,
    WATCHED_AT_ONCE_MAX,
)
from orchestra.stage import ACKED, READ
from orchestra.task import TaskState
from orchestra.wire import INT_MAX, MESSAGE, REPLY, pack

from . import grants, presence, receipts, story, tokencalls
from .channels import missed
from .hubstate import unknown
from .roster import Session
from .turn import Fetch, Query, Turn
from .waiting import why_waiting

if TYPE_CHECKING:
    from .decider import Decider

Params = dict[str, Any]

_OLDEST_TOLD: Final = 8  # mailboxes and queues, the fullest, of which status tells since when their oldest waits


@dataclass(frozen=True, slots=True)
class Asked:
    """One CALL on its way through a method."""

    decider: Decider
    session: Session
    ref: int
    params: Params
    turn: Turn

    def query(self, name: str, **params: Any) -> None:
        """Let the database answer."""
        self.turn.queries.append(Query(self.session.link, self.ref, name, params))

    def fetch(self, what: str, *, recipient: int = 0, **params: Any) -> None:
        """Let the database be read, and the decider answer from that: a function of `LOADED`."""
        self.turn.fetches.append(
            Fetch(what, recipient, (0, 0), LIST_ROWS_MAX, self.session.link, self.ref, MappingProxyType(params))
        )


@dataclass(frozen=True, slots=True)
class Method:
    """A method of CALL: `run` returns the result, or None where a query will."""

    run: Callable[[Asked], Params | None]
    required: dict[str, type] = field(default_factory=dict)
    optional: dict[str, type] = field(default_factory=dict)


def answer(decider: Decider, session: Session, ref: int, name: str, params: Params, turn: Turn) -> None:
    """Run one CALL and owe its REPLY.

    Raises:
        PeerError: as an ERROR that refers to `ref`.
    """
    at_ms, count = session.calls
    session.calls = (turn.at_ms, count + 1 if at_ms == turn.at_ms else 1)
    if session.calls[1] > CALLS_A_TURN_MAX:
        raise HubFull(f"more than {CALLS_A_TURN_MAX} calls at once; wait for their replies")
    wait_s = session.peer.calls.take(rate=CALLS_A_SECOND_MAX, burst_s=CALL_BURST_S, at_ms=turn.at_ms)
    if wait_s:
        raise RateLimited(f"{session.peer.text} may call {CALLS_A_SECOND_MAX} times a second; wait {wait_s:.2g} s")
    method = METHODS.get(name)
    if method is None:
        raise UnknownMethod(f"method {name[:40]!r} is not known; this hub has {', '.join(sorted(METHODS))}")
    _check(method, params)
    result = method.run(Asked(decider, session, ref, params, turn))
    if result is not None:
        turn.send(session.link, [REPLY, ref, result])


def _check(method: Method, params: Params) -> None:
    for name in method.required:
        if name not in params:
            raise BadOption(f"parameter {name!r} is missing")
    for name, value in params.items():
        expected = method.required.get(name) or method.optional.get(name)
        if expected is None:
            raise BadOption(f"parameter {str(name)[:40]!r} is not known")
        if type(value) is not expected:
            raise BadOption(f"parameter {name!r} must be of type {expected.__name__}")
        if type(value) is int and not 0 <= value <= INT_MAX:
            raise BadOption(f"parameter {name!r} must be 0 to 2^63-1")


def _status(asked: Asked) -> None:
    decider = asked.decider
    peers = decider.state.roster.peers.values()
    lines = _fullest(decider.tasks.board.lines())
    mailboxes = _fullest({peer.text: peer.mailbox.waiting for peer in peers if peer.mailbox.waiting})
    asked.query(
        "status",
        **decider.facts,
        now_ms=asked.turn.now_ms,
        by_file=decider.state.files.last_hour(now_ms=asked.turn.now_ms),
        sessions=len(decider.state.roster.sessions),
        peers={
            kind: {
                "known": sum(1 for peer in peers if peer.address.kind == kind),
                "online": sum(1 for peer in peers if peer.address.kind == kind and peer.sessions),
                "away": sum(1 for peer in peers if peer.address.kind == kind and peer.away_ms is not None),
            }
            for kind in ("agent", "matrix", "operator")
        },
        tasks={
            "working": sum(1 for task in decider.tasks.board.tasks.values() if task.state.is_held),
            "waiting": lines,
        },
        mailboxes=mailboxes,
        oldest={text: decider.tasks.board.oldest_ms(text) for text in list(lines)[:_OLDEST_TOLD]},
        fullest={text: decider.state.ids[text] for text in list(mailboxes)[:_OLDEST_TOLD]},
        stored={
            "unread": sum(peer.mailbox.count for peer in peers),
            "entries": sum(channel.count for channel in decider.channels.all.values()),
        },
        counts=dict(decider.state.counts),
    )


def _peers(asked: Asked) -> Params:
    peers = list(asked.decider.state.roster.peers.values())
    return presence.page(peers, after=asked.params.get("after", ""), is_brief=False)


def _presence_watch(asked: Asked) -> Params:
    asked.decider.presence.watch(asked.session)
    peers = list(asked.decider.state.roster.peers.values())
    return presence.page(peers, after=asked.params.get("after", ""), is_brief=True)


def _presence_unwatch(asked: Asked) -> Params:
    asked.decider.presence.unwatch(asked.session)
    return {}


def _presence_set(asked: Asked) -> Params:
    peer = asked.session.peer
    text = asked.params.get("address", peer.text)
    if text != peer.text:
        grants.check(asked.session.rights, grants.ADMINISTER)
        found = asked.decider.state.roster.peers.get(text)
        if found is None:
            raise unknown(text)
        peer = found
    asked.decider.presence.set(peer, asked.params["state"], asked.params.get("text", ""), asked.turn)
    return presence.facts(peer)


def _files_tell(asked: Asked) -> Params:
    asked.decider.state.files.tell(asked.session.peer.text, asked.params["minutes"])
    return {}


def _feed_watch(asked: Asked) -> Params:
    return asked.decider.feed.watch(asked.session, asked.turn)


def _feed_seen(asked: Asked) -> Params:
    asked.decider.feed.seen(asked.session, asked.params["n"])
    return {}


def _feed_unwatch(asked: Asked) -> Params:
    asked.decider.feed.unwatch(asked.session)
    return {}


def _fullest(counts: dict[str, int]) -> dict[str, int]:
    """Return the largest of `counts`; there may be more than a reply should hold."""
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:LIST_ROWS_MAX])


def _keys_accept(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.ADMINISTER)
    address, public = parse_peer(asked.params["address"]), asked.params["public_key"]
    asked.decider.enrolment.accept(asked.session.peer.text, address, public, now_ms=asked.turn.now_ms)
    return {"address": str(address), "fingerprint": fingerprint(public)}


def _keys_list(asked: Asked) -> None:
    grants.check(asked.session.rights, grants.ADMINISTER)
    state = asked.decider.state
    sessions = Counter(session.identity for session in state.roster.sessions.values())
    invites = sorted(asked.decider.enrolment.invites.values(), key=lambda invite: invite.made_ms)
    asked.query(
        "keys",
        grants={peer.text: list(peer.grants) for peer in state.roster.peers.values() if peer.grants is not None},
        sessions={identity.partition(" ")[2]: count for identity, count in sessions.items()},
        next_key=_next_key(asked.decider),
        pending=[
            {"public_key": public, "fingerprint": fingerprint(public), "source": source, "at_ms": at_ms}
            for public, (source, at_ms) in asked.decider.enrolment.pending.items()
        ],
        invitations=[
            {**asdict(invite), "is_open": invite.uses_left > 0 and asked.turn.now_ms < invite.expires_ms}
            for invite in invites
        ],
    )


def _next_key(decider: Decider) -> Params | None:
    public = decider.succession.public
    return {"fingerprint": fingerprint(public), "at_ms": decider.succession.at_ms} if public else None


def _keys_grant(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.ADMINISTER)
    params = asked.params
    peer = asked.decider.state.roster.peers.get(params["address"])
    if peer is None:
        raise unknown(params["address"])
    given = None if params.get("default") else peer.grants
    if params.get("add") or params.get("remove"):
        now = set(grants.of(peer) if given is None else given) | set(grants.parse_grants(params.get("add", [])))
        given = grants.parse_grants(now - set(grants.parse_grants(params.get("remove", []))))
    if given != peer.grants:
        asked.decider.grant(asked.session.peer.text, peer, given, asked.turn)
    return {"address": peer.text, "grants": list(grants.of(peer)), "is_default": peer.grants is None}


def _peer_keys(asked: Asked) -> Params:
    text = asked.params["address"]
    if text not in asked.decider.state.roster.peers:
        raise unknown(text)
    keys = [public for public, owner in asked.decider.state.keys.items() if owner == text]
    return {"address": text, "keys": keys[:KEYS_PER_PEER_MAX]}


def _keys_reject(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.ADMINISTER)
    by, now_ms = asked.session.peer.text, asked.turn.now_ms
    asked.decider.enrolment.reject(by, asked.params["public_key"], now_ms=now_ms)
    return {"fingerprint": fingerprint(asked.params["public_key"])}


def _keys_revoke(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.ADMINISTER)
    return {"address": asked.decider.revoke(asked.session.peer.text, asked.params["public_key"], asked.turn)}


def _keys_rotate(asked: Asked) -> Params:
    text, _, old = asked.session.identity.partition(" ")
    if asked.session.token is not None:
        raise NotAllowed("this session came with a token, and has no key to rotate; connect with the key")
    until_ms = asked.decider.enrolment.rotate(
        text, old, asked.params["public_key"], overlap_ms=asked.params["overlap_ms"], now_ms=asked.turn.now_ms
    )
    return {"address": text, "until_ms": until_ms}


def _hub_rotate(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.ADMINISTER)
    succession = asked.decider.succession
    succession.announce(asked.session.peer.text, asked.params["overlap_ms"], asked.turn)
    return {"public_key": succession.public, "fingerprint": fingerprint(succession.public), "at_ms": succession.at_ms}


def _audit_list(asked: Asked) -> None:
    grants.check(asked.session.rights, grants.ADMINISTER)
    asked.query("audit", after=asked.params.get("after", 0), count=_count(asked.params))


def _invite(asked: Asked) -> Params:
    peer = asked.session.peer
    grants.check(asked.session.rights, grants.ADMINISTER)
    invite = asked.decider.enrolment.invite(
        peer.text,
        parse_peer(asked.params["address"]),
        asked.params["public_key"],
        ttl_ms=asked.params["ttl_ms"],
        uses=asked.params["uses"],
        given=grants.parse_grants(asked.params.get("grants", [])),
        turn=asked.turn,
    )
    return {"address": invite.address, "expires_ms": invite.expires_ms}


def _inbox(asked: Asked) -> None:
    grants.check(asked.session.rights, grants.RECEIVE)
    count = _count(asked.params)
    asked.query("inbox", recipient=asked.session.peer.id, after=asked.params.get("after", 0), count=count)


def _inbox_read(asked: Asked) -> None:
    grants.check(asked.session.rights, grants.RECEIVE)
    stage = ACKED if asked.params.get("ack", False) else READ
    asked.fetch("mail", recipient=asked.session.peer.id, seqs=list(dict.fromkeys(_seqs(asked.params))), stage=stage)


def _was_read(decider: Decider, session: Session, fetch: Fetch, found: list[Any], turn: Turn) -> Params:
    return {"read": decider.post.read(session, fetch.params["stage"], found, turn)}


def _dead_list(asked: Asked) -> None:
    before = asked.params.get("before", 0)
    asked.query("dead_letters", before=before, count=_count(asked.params), rights=asked.session.rights)


def _dead_get(asked: Asked) -> None:
    asked.query("dead_letter", seq=asked.params["seq"], rights=asked.session.rights)


def _dead_resend(asked: Asked) -> None:
    asked.fetch("dead", seqs=list(dict.fromkeys(_seqs(asked.params))), is_resend=True)


def _dead_drop(asked: Asked) -> None:
    asked.fetch("dead", seqs=list(dict.fromkeys(_seqs(asked.params))), is_resend=False)


def _deal_with_dead(decider: Decider, session: Session, fetch: Fetch, found: list[Any], turn: Turn) -> Params:
    if fetch.params["is_resend"]:
        return {"resent": decider.dead.resend(session, found, turn)}
    return {"dropped": decider.dead.drop(session, found, turn)}


def _message_list(asked: Asked) -> None:
    grants.check(asked.session.rights, grants.OBSERVE)
    asked.query("messages", before=asked.params.get("before", 0), count=_count(asked.params))


def _message_get(asked: Asked) -> None:
    asked.query("message", seq=asked.params["seq"], rights=asked.session.rights)


def _message_watch(asked: Asked) -> None:
    seqs = _seqs(asked.params)
    if len(seqs) > WATCHED_AT_ONCE_MAX:
        raise BadOption(f"seqs has {len(seqs)} messages; the limit is {WATCHED_AT_ONCE_MAX}")
    asked.decider.post.watches.check_room(asked.session, seqs)
    asked.fetch("watch", seqs=seqs)


def _is_watched(decider: Decider, session: Session, fetch: Fetch, found: list[Any], turn: Turn) -> Params:
    shown: list[Params] = []
    size = 0
    for each in found:
        message = receipts.seen_by(each, session.rights, seq=each["seq"])
        facts = {name: message[name] for name in ("seq", "to", "recipients", "is_cut")}
        size += len(pack(facts))
        if size > REPLY_BYTES_MAX and shown:
            return {"messages": shown, "is_cut": True}  # the caller goes on after the last
        shown.append(facts)
        decider.post.watches.watch(session, message["seq"], message["to"])
    return {"messages": shown, "is_cut": False}


def _message_thread(asked: Asked) -> None:
    asked.query("thread", seq=asked.params["seq"], count=_count(asked.params), rights=asked.session.rights)


def _message_unwatch(asked: Asked) -> Params:
    for seq in _seqs(asked.params):
        asked.decider.post.watches.unwatch(asked.session, seq)
    return {}


def _task_get(asked: Asked) -> None:
    seq = asked.params["seq"]
    board = asked.decider.tasks.board
    why = why_waiting(board.tasks[seq], board, asked.decider.state.roster) if seq in board.tasks else ""
    children = [child.seq for child in asked.decider.tasks.family.below(seq)[:LIST_ROWS_MAX]]
    asked.query("task", seq=seq, rights=asked.session.rights, why=why, children=children)


def _task_list(asked: Asked) -> None:
    state = asked.params.get("state", "")
    if state and state not in set(TaskState):
        raise BadOption(f"state must be one of {', '.join(TaskState)}")
    asked.query(
        "tasks",
        state=state,
        before=asked.params.get("before", 0),
        count=_count(asked.params),
        rights=asked.session.rights,
    )


def _task_watch(asked: Asked) -> None:
    seqs = _seqs(asked.params)
    for seq in seqs:
        task = asked.decider.tasks.board.tasks.get(seq)
        if task is not None:
            grants.check_see_task(asked.session.rights, sender=task.sender, holder=task.holder_text)
            asked.decider.tasks.watch(asked.session, task)
        else:
            asked.decider.tasks.watch_if_revived(asked.session, seq)
    asked.query("outcomes", seqs=seqs, rights=asked.session.rights)


def _task_cancel(asked: Asked) -> Params:
    task = asked.decider.tasks.board.tasks.get(asked.params["seq"])
    if task is None:
        raise NotCancelable(_gone(asked.params["seq"]))
    grants.check_manage(asked.session.rights, sender=task.sender, sending=grants.SUBMIT, to=task.to)
    below = asked.decider.tasks.cancel(task, f"canceled by {asked.session.peer.text}", asked.turn)
    return {"seq": task.seq, "state": task.state.value, "below": below}


def _gone(seq: int) -> str:
    return f"task {seq} is over or does not exist; see: orchestra task show {seq}"


def _task_ask(asked: Asked) -> Params:
    seq, lease, number, question = (asked.params[name] for name in ("seq", "lease", "number", "question"))
    task = asked.decider.inputs.ask(asked.session, seq, lease, number, question, asked.turn)
    return {"seq": task.seq, "state": task.state.value}


def _task_answer(asked: Asked) -> Params:
    task = asked.decider.tasks.board.tasks.get(asked.params["seq"])
    if task is None:
        raise NotAsked(_gone(asked.params["seq"]))
    grants.check_manage(asked.session.rights, sender=task.sender, sending=grants.SUBMIT, to=task.to)
    asked.decider.inputs.answer(task, asked.params["text"], asked.turn, by=asked.session.peer.text)
    return {"seq": task.seq, "state": task.state.value}


def _task_checkpoint(asked: Asked) -> Params:
    seq, lease, data = (asked.params[name] for name in ("seq", "lease", "data"))
    asked.decider.inputs.checkpoint(asked.session, seq, lease, data, asked.turn)
    return {"bytes": len(data)}


def _task_retry(asked: Asked) -> Params:
    task = asked.decider.tasks.retry(asked.session, asked.params["seq"], asked.turn)
    return {"seq": task.seq, "state": task.state.value}


def _whoami(asked: Asked) -> Params:
    session = asked.session
    told: Params = {"address": session.peer.text, "grants": session.rights.shown()}
    if session.token is not None:
        told |= {"token": session.token.token_id, "ends_ms": session.ends_ms}
    return told


def _trace(asked: Asked) -> None:
    seq, decider = asked.params["seq"], asked.decider
    roster = decider.state.roster
    found = decider.state.archive.message(seq)
    if found is not None and found["kind"] == MESSAGE:
        moment = story.moment_of_message(found, roster, asked.turn)
    else:
        moment = story.moment_of_task(seq, decider.tasks.board, roster)
    asked.query("trace", seq=seq, rights=asked.session.rights, moment=moment, now_ms=asked.turn.now_ms)


def _subscribe(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.READ, asked.params["channel"])
    return asked.decider.channels.subscribe(
        asked.session,
        asked.params["channel"],
        after=asked.params.get("after"),
        cursor=asked.params.get("cursor"),
        credit=asked.params.get("credit", CREDIT_DEFAULT),
        turn=asked.turn,
    )


def _unsubscribe(asked: Asked) -> Params:
    asked.decider.channels.unsubscribe(asked.session, asked.params["channel"])
    return {"channel": asked.params["channel"]}


def _channel_create(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.CHANNEL, asked.params["channel"])
    channel = asked.decider.channels.create(
        asked.session.peer, asked.params["channel"], asked.params.get("mode", ""), asked.turn
    )
    return {"channel": channel.text, "mode": channel.mode}


def _channel_list(asked: Asked) -> None:
    channels = asked.decider.channels
    texts = asked.decider.state.texts
    asked.query(
        "channels",
        channels=[
            {
                "channel": channel.text,
                "mode": channel.mode,
                "made_by": texts[channel.made_by] if channel.made_by is not None else "",
                "made_ms": channel.made_ms,
                "trimmed_seq": channel.trimmed_seq,
                "last_seq": channel.last_seq,
                "entries": channel.count,
                "followers": len(channel.followers),
                "cursors": channels.cursors.of(asked.session.peer, channel),
            }
            for channel in sorted(channels.all.values(), key=lambda channel: channel.text)
        ],
        ids=asked.decider.state.ids,
    )


def _channel_read(asked: Asked) -> None:
    params, channels = asked.params, asked.decider.channels
    grants.check(asked.session.rights, grants.READ, params["channel"])
    channel = channels.known(params["channel"])
    is_newest = "newest" in params
    count = _count({"count": params["newest"]} if is_newest else params)
    if "entry" in params:
        newest = channel.newest.get(params["entry"])
        if newest is None:
            raise NotFound(f"{channel.text} has no entry {params['entry'][:80]!r}")
        after, count = newest.seq - 1, 1
    elif "cursor" in params:
        after = channels.place(
            asked.session.peer, channel, after=params.get("after"), cursor=params["cursor"], turn=asked.turn
        )
    else:
        after = params.get("after", 0)
    asked.query(
        "entries",
        channel=channel.id,
        after=after,
        missed=missed(channel, after),
        count=count,
        is_newest=is_newest,
        cut_bytes=params.get("cut_bytes", BODY_BYTES_MAX),
    )


def _channel_seen(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.READ, asked.params["channel"])
    asked.decider.channels.seen(
        asked.session, asked.params["channel"], asked.params["seq"], asked.params.get("cursor"), asked.turn
    )
    return {}


def _channel_forget(asked: Asked) -> Params:
    grants.check(asked.session.rights, grants.READ, asked.params["channel"])
    channels = asked.decider.channels
    channels.cursors.forget(asked.session.peer, channels.known(asked.params["channel"]), asked.params["cursor"])
    return {}


def _count(params: Params) -> int:
    count = params.get("count", 100)
    if not 0 < count <= LIST_ROWS_MAX:
        raise BadOption(f"count must be 1 to {LIST_ROWS_MAX}")
    return int(count)


def _seqs(params: Params) -> list[int]:
    seqs = params["seqs"]
    if not seqs or len(seqs) > LIST_ROWS_MAX or any(type(seq) is not int or not 0 < seq < 2**63 for seq in seqs):
        raise NotFound(f"seqs must be 1 to {LIST_ROWS_MAX} numbers of messages")
    return list(seqs)


METHODS: Final[dict[str, Method]] = {
    "channel.create": Method(_channel_create, required={"channel": str}, optional={"mode": str}),
    "channel.forget": Method(_channel_forget, required={"channel": str, "cursor": str}),
    "channel.list": Method(_channel_list),
    "channel.read": Method(
        _channel_read,
        required={"channel": str},
        optional={"after": int, "count": int, "cursor": str, "cut_bytes": int, "entry": str, "newest": int},
    ),
    "channel.seen": Method(_channel_seen, required={"channel": str, "seq": int}, optional={"cursor": str}),
    "audit.list": Method(_audit_list, optional={"after": int, "count": int}),
    "dead.drop": Method(_dead_drop, required={"seqs": list}),
    "dead.get": Method(_dead_get, required={"seq": int}),
    "dead.list": Method(_dead_list, optional={"before": int, "count": int}),
    "dead.resend": Method(_dead_resend, required={"seqs": list}),
    "feed.seen": Method(_feed_seen, required={"n": int}),
    "feed.unwatch": Method(_feed_unwatch),
    "feed.watch": Method(_feed_watch),
    "hub.rotate": Method(_hub_rotate, required={"overlap_ms": int}),
    "files.tell": Method(_files_tell, required={"minutes": list}),
    "inbox": Method(_inbox, optional={"after": int, "count": int}),
    "inbox.read": Method(_inbox_read, required={"seqs": list}, optional={"ack": bool}),
    "invite": Method(
        _invite, required={"address": str, "public_key": str, "ttl_ms": int, "uses": int}, optional={"grants": list}
    ),
    "keys.accept": Method(_keys_accept, required={"address": str, "public_key": str}),
    "keys.grant": Method(
        _keys_grant, required={"address": str}, optional={"add": list, "remove": list, "default": bool}
    ),
    "keys.list": Method(_keys_list),
    "keys.reject": Method(_keys_reject, required={"public_key": str}),
    "keys.rotate": Method(_keys_rotate, required={"public_key": str, "overlap_ms": int}),
    "keys.revoke": Method(_keys_revoke, required={"public_key": str}),
    "peer.keys": Method(_peer_keys, required={"address": str}),
    "peers": Method(_peers, optional={"after": str}),
    "presence.set": Method(_presence_set, required={"state": str}, optional={"text": str, "address": str}),
    "presence.unwatch": Method(_presence_unwatch),
    "presence.watch": Method(_presence_watch, optional={"after": str}),
    "message.get": Method(_message_get, required={"seq": int}),
    "message.list": Method(_message_list, optional={"before": int, "count": int}),
    "message.thread": Method(_message_thread, required={"seq": int}, optional={"count": int}),
    "message.unwatch": Method(_message_unwatch, required={"seqs": list}),
    "message.watch": Method(_message_watch, required={"seqs": list}),
    "status": Method(_status),
    "subscribe": Method(_subscribe, required={"channel": str}, optional={"after": int, "credit": int, "cursor": str}),
    "task.answer": Method(_task_answer, required={"seq": int, "text": str}),
    "task.ask": Method(_task_ask, required={"seq": int, "lease": int, "number": int, "question": str}),
    "task.checkpoint": Method(_task_checkpoint, required={"seq": int, "lease": int, "data": bytes}),
    "task.cancel": Method(_task_cancel, required={"seq": int}),
    "task.get": Method(_task_get, required={"seq": int}),
    "task.retry": Method(_task_retry, required={"seq": int}),
    "task.list": Method(_task_list, optional={"state": str, "before": int, "count": int}),
    "task.watch": Method(_task_watch, required={"seqs": list}),
    "token.code": Method(tokencalls.code),
    "token.create": Method(
        tokencalls.create, required={"ttl_ms": int}, optional={"address": str, "grants": list, "url": bool}
    ),
    "token.list": Method(tokencalls.listed, optional={"address": str}),
    "token.revoke": Method(tokencalls.revoke, optional={"id": str, "address": str}),
    "trace": Method(_trace, required={"seq": int}),
    "unsubscribe": Method(_unsubscribe, required={"channel": str}),
    "whoami": Method(_whoami),
}

READS: Final = frozenset(
    {"channel.list", "dead.list", "inbox", "message.get", "peers", "status", "task.get", "task.list", "trace"}
)
"""Those that change nothing, not even for their session."""

LOADED: Final[dict[str, Callable[[Decider, Session, Fetch, list[Any], Turn], Params]]] = {
    "dead": _deal_with_dead,
    "mail": _was_read,
    "watch": _is_watched,
}
"""What answers a CALL from the rows that its `fetch` asked for, by the name of the fetch."""
