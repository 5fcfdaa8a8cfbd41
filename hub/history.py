"""Questions to the database: what CALLs ask for that is not in memory. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from orchestra.address import parse_address
from orchestra.errors import NotAllowed, NotFound, NotStored, PeerError, StaleLease
from orchestra.keys import fingerprint
from orchestra.limits import LIST_ROWS_MAX, REPLY_BYTES_MAX, STATUS_ROWS_MAX
from orchestra.stage import STAGES
from orchestra.task import TaskState
from orchestra.terms import TERMS
from orchestra.wire import CALL, ERROR, MESSAGE, OK, REPLY, RESULT, SEND, Record

from . import receipts, story
from .grants import OBSERVE, allows, check_see_message, check_see_task
from .news import OPTIONS_TOLD, line_of
from .store import Store
from .turn import Query
from .unpack import unpack

Params = dict[str, Any]

_HOUR_MS: Final = 3_600_000

_TASK_COLUMNS: Final = """
    SELECT t.seq, t.state, t.attempt, h.text, t.updated_ms, s.text, r.text, m.sent_ms, m.rank, t.report, m.body,
    t.output, m.options, t.extras FROM task t JOIN message m ON m.seq = t.seq JOIN origin o ON o.id = m.origin
    JOIN address s ON s.id = o.peer JOIN address r ON r.id = t.recipient LEFT JOIN address h ON h.id = t.holder
"""

_HEAD: Final = "coalesce(substr(m.body, 1, 1000), x'')"  # SQLite's substr of an empty blob is null

_EXTRAS: Final = {
    "failures": "any",
    "retried_ms": "any",
    "retried_by": "any",
    "retried_end": "any",
    "question": "any",
    "asked_ms": "any",
    "answer": "any",
    "answered_ms": "any",
    "answered_by": "any",
    "due_ms": TaskState.SCHEDULED,
}
"""What is told of a task's extras, and in which state."""


def answer(store: Store, query: Query) -> Record:
    """Return the record that answers `query`."""
    try:
        if query.name in _REPEATED:
            return [OK, query.ref, _REPEATED[query.name][1](store, query), 1]
        return [REPLY, query.ref, _QUERIES[query.name](store, query.params)]
    except PeerError as error:
        return [ERROR, _verb(query), query.ref, error.code, str(error)]


def failed(query: Query) -> Record:
    """Return the record that says that the hub itself failed to answer `query`."""
    text = "the hub failed to answer, and its log says why; nothing that was acknowledged is lost"
    return [ERROR, _verb(query), query.ref, PeerError.code, text]


def _verb(query: Query) -> int:
    return _REPEATED[query.name][0] if query.name in _REPEATED else CALL


def _sent_before(store: Store, query: Query) -> int:
    """Return which seq a send became whose number was used before.

    The log has no index by sender. The search runs backwards from the sender's last seq and stops at the first smaller
    number of the same life, so it reads what was sent since.

    Raises:
        NotStored: if it was refused then.
    """
    origin, n = query.params["origin"], query.ref
    sql = "SELECT n, seq FROM message WHERE seq <= ? AND seq > ? AND origin = ? ORDER BY seq DESC"
    for found, seq in store.rows(sql, query.params["last"], query.params["after"], origin):
        if found == n:
            return int(seq)
        if found < n:
            break
    raise NotStored(f"send {n} is not stored: it was refused when it came first, or retention has removed it")


def _result_before(store: Store, query: Query) -> int:
    """Return the seq of a task whose result was taken before: the same one, from the same agent under the same lease.

    Raises:
        StaleLease: if no such result was taken.
    """
    seq, lease, holder = (query.params[name] for name in ("seq", "lease", "holder"))
    where = "lease = ? AND holder = ? AND result_n = ?"
    sql = f"SELECT seq FROM task WHERE seq = ? AND {where} UNION SELECT task FROM attempt WHERE task = ? AND {where}"
    for _ in store.rows(sql, *2 * (seq, lease, holder, query.ref)):
        return int(seq)
    raise StaleLease(f"task {seq} is not held under lease {lease}; its result is not taken")


_REPEATED: Final[dict[str, tuple[int, Callable[[Store, Query], int]]]] = {
    "result_before": (RESULT, _result_before),
    "sent_before": (SEND, _sent_before),
}


def _status(store: Store, params: Params) -> Params:
    sql = """
        SELECT max(saved_seq, (SELECT coalesce(max(seq), 0) FROM message)), removed,
        (SELECT coalesce(min(seq), 0) FROM message) FROM hub
    """
    last, removed, first = next(store.rows(sql))
    sql = "SELECT state, count(*) FROM (SELECT state FROM task ORDER BY seq DESC LIMIT ?) GROUP BY state"
    stored = {
        "last_seq": last,
        "first_seq": first,
        "messages": last - removed,  # every number that was given out is one row
        "tasks": dict(store.rows(sql, STATUS_ROWS_MAX)),
        "dead": count_dead(store),
        "receipts": _count_some(store, "receipt"),
        "origins": _count_some(store, "origin"),
        **store.sizes(),
    }
    since = _first_since(store, params["now_ms"] - _HOUR_MS, first=first, last=last)
    by_file, by_push = _came(store, since)
    came = {"by_push": by_push - by_file, "by_file": by_file + params.pop("by_file")}
    fullest = params.pop("fullest")
    oldest = {text: at_ms for text, number in fullest.items() if (at_ms := _oldest_ms(store, number)) is not None}
    return {**params, "came": came, "stored": {**params["stored"], **stored}, "oldest": {**params["oldest"], **oldest}}


def _first_since(store: Store, sent_ms: int, *, first: int, last: int) -> int:
    """Return the seq after which the log is younger than `sent_ms`: by halving, since times have no index."""
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        found = next(store.rows("SELECT sent_ms FROM message WHERE seq >= ? ORDER BY seq LIMIT 1", middle), None)
        if found is not None and found[0] < sent_ms:
            low = middle + 1
        else:
            high = middle
    return low


def _came(store: Store, since: int) -> tuple[int, int]:
    """Return how many tasks of the log from `since` on a bridge took from files, and how many there are in all.

    A bridge's keys say so. Both end at STATUS_ROWS_MAX.
    """
    sql = f"""
        SELECT (SELECT count(*) FROM (SELECT key FROM send_key WHERE seq >= ? LIMIT {STATUS_ROWS_MAX})
        WHERE key >= 'file:' AND key < 'file;'), (SELECT count(*) FROM (SELECT 1 FROM task WHERE seq >= ? LIMIT
        {STATUS_ROWS_MAX}))
    """
    by_file, tasks = next(store.rows(sql, since, since))
    return int(by_file), int(tasks)


def count_dead(store: Store) -> int:
    """Return how many dead letters nobody has dealt with, up to `STATUS_ROWS_MAX`."""
    return _count_some(store, "dead WHERE closed_ms IS NULL")


def _count_some(store: Store, what: str) -> int:
    """Count the rows of a table, up to a bound: to count them all would walk the whole of it."""
    return int(next(store.rows(f"SELECT count(*) FROM (SELECT 1 FROM {what} LIMIT ?)", STATUS_ROWS_MAX))[0])


def _oldest_ms(store: Store, recipient: int) -> int | None:
    """Return when the oldest message was sent that still waits for `recipient`; of the first in line of each rank."""
    sql = """
        SELECT min(m.sent_ms) FROM
        (SELECT seq, delivered_ms FROM delivery WHERE recipient = ? AND rank = ? ORDER BY seq LIMIT 1000) d
        JOIN message m ON m.seq = (d.seq) WHERE d.delivered_ms IS NULL
    """
    found = [next(store.rows(sql, recipient, rank))[0] for rank in range(4)]
    return min((each for each in found if each is not None), default=None)


def _keys(store: Store, params: Params) -> Params:
    rows = store.rows(
        "SELECT k.public, a.text, k.since_ms, k.until_ms FROM key k JOIN address a ON a.id = k.peer ORDER BY 2, 3"
    )
    found: list[Params] = []
    for public, address, since_ms, until_ms in rows:
        if len(found) == LIST_ROWS_MAX:
            break
        found.append(
            {
                "address": address,
                "public_key": public,
                "fingerprint": fingerprint(public),
                "since_ms": since_ms,
                "until_ms": until_ms,
                "sessions": params["sessions"].get(public, 0),
                "grants": params["grants"].get(address),
            }
        )
    listed = {name: params[name] for name in ("next_key", "pending", "invitations")}
    return {"keys": found, **listed, "is_cut": next(rows, None) is not None}


def _audit(store: Store, params: Params) -> Params:
    sql = "SELECT n, at_ms, actor, action, subject, detail, digest FROM audit WHERE n > ? ORDER BY n LIMIT ?"
    names = ("n", "at_ms", "actor", "action", "subject", "detail", "digest")
    rows = store.rows(sql, params["after"], params["count"])
    last = next(store.rows("SELECT coalesce(max(n), 0) FROM audit"))[0]
    return {"entries": [dict(zip(names, row, strict=True)) for row in rows], "last_n": last}


def _inbox(store: Store, params: Params) -> Params:
    sql = """
        SELECT m.seq, s.text, r.text, m.sent_ms, m.rank, d.delivered_ms, m.options, m.body
        FROM delivery d JOIN message m ON m.seq = d.seq JOIN origin o ON o.id = m.origin
        JOIN address s ON s.id = o.peer JOIN address r ON r.id = m.recipient
        WHERE d.recipient = ? AND m.seq > ? ORDER BY m.seq LIMIT ?
    """
    names = ("seq", "from", "to", "sent_ms", "rank", "delivered_ms", "options", "body")
    found = _listed("messages", names, store.rows(sql, params["recipient"], params["after"], params["count"]))
    for each in found["messages"]:
        each["options"] = unpack(each["options"]) or {}
    return found


def _thread(store: Store, params: Params) -> Params:
    """The messages of the thread that one belongs to, as far as the caller sent or got them, in order."""
    seq, reader = params["seq"], params["rights"]
    asked = receipts.seen_by(receipts.message(store.rows, seq), reader, seq=seq)
    thread = asked["options"].get("thread", seq)
    found: list[Params] = []
    size = 0
    for (number,) in [(thread,), *store.rows("SELECT seq FROM reply WHERE thread = ? ORDER BY seq", thread)]:
        try:
            message = receipts.seen_by(receipts.message(store.rows, number), reader, seq=number)
        except (NotFound, NotAllowed):  # it is gone, or between others
            continue
        own = [each for each in message["recipients"] if each["recipient"] == reader.peer.text]
        size += 500 + len(message["body"])
        if found and (size > REPLY_BYTES_MAX or len(found) == params["count"]):
            return {"thread": thread, "messages": found, "is_cut": True}
        names = ("seq", "from", "to", "sent_ms", "rank", "options", "body")
        found.append({**{name: message[name] for name in names}, "is_unread": any(each["is_unread"] for each in own)})
    return {"thread": thread, "messages": found, "is_cut": False}


def _message(store: Store, params: Params) -> Params:
    return receipts.seen_by(receipts.message(store.rows, params["seq"]), params["rights"], seq=params["seq"])


def _messages(store: Store, params: Params) -> Params:
    """The newest messages of everybody, each in one line with its stage, as far as a bounded look back finds some."""
    last = next(store.rows("SELECT coalesce(max(seq), 0) FROM message"))[0]
    before = min(params["before"] or last + 1, last + 1)
    floor = max(0, before - STATUS_ROWS_MAX)
    sql = f"""
        SELECT m.seq, s.text, r.text, m.recipient, m.sent_ms, m.rank, m.options, length(m.body),
        {_HEAD}
        FROM message m JOIN origin o ON o.id = m.origin JOIN address s ON s.id = o.peer
        JOIN address r ON r.id = m.recipient
        WHERE m.seq < ? AND m.seq >= ? AND m.kind = ? ORDER BY m.seq DESC LIMIT ?
    """
    found: list[Params] = []
    size = 0
    for seq, sender, to, recipient, sent_ms, rank, packed, length, head in store.rows(
        sql, before, floor, MESSAGE, params["count"]
    ):
        options = unpack(packed) or {}
        text = line_of(MESSAGE, head, options)
        size += 500 + 4 * len(text)
        if size > REPLY_BYTES_MAX:
            break
        is_one = parse_address(to).is_peer
        reached = receipts.where(store.rows, recipient, seq) if is_one else {"stage": STAGES[0], "reason": ""}
        facts = {"seq": seq, "from": sender, "to": to, "sent_ms": sent_ms, "rank": rank, "bytes": length, "text": text}
        told = {name: options[name] for name in OPTIONS_TOLD if name in options}
        found.append({**facts, **told, "stage": reached["stage"], "reason": reached["reason"]})
    is_all = len(found) < params["count"] and size <= REPLY_BYTES_MAX
    return {"messages": found, "before": floor if is_all else found[-1]["seq"]}


def _dead_letters(store: Store, params: Params) -> Params:
    """The dead letters that nobody dealt with, newest first, with the head of each body."""
    where, values = ["d.closed_ms IS NULL"], []
    if params["before"]:
        where.append("d.seq < ?")
        values.append(params["before"])
    if not allows(params["rights"], OBSERVE):
        where.append("s.text = ?")
        values.append(params["rights"].peer.text)
    sql = f"""
        SELECT d.seq, m.kind, s.text, r.text, d.reason, d.at_ms, m.sent_ms, length(m.body),
        {_HEAD}
        FROM dead d JOIN message m ON m.seq = d.seq JOIN origin o ON o.id = m.origin
        JOIN address s ON s.id = o.peer JOIN address r ON r.id = d.recipient
        WHERE {" AND ".join(where)} ORDER BY d.seq DESC LIMIT ?
    """
    names = ("seq", "kind", "from", "to", "reason", "at_ms", "sent_ms", "bytes", "body")
    return _listed("dead", names, store.rows(sql, *values, params["count"]))


def _dead_letter(store: Store, params: Params) -> Params:
    found = receipts.dead_letter(store.rows, params["seq"])
    if not found["dead"]:
        raise NotFound(f"there is no dead letter {params['seq']}; see: orchestra dead list")
    check_see_message(params["rights"], sender=found["from"], recipients=())
    return {name: found[name] for name in ("seq", "kind", "from", "to", "sent_ms", "rank", "options", "body", "dead")}


def _task(store: Store, params: Params) -> Params:
    for row in store.rows(f"{_TASK_COLUMNS} WHERE t.seq = ?", params["seq"]):
        facts = _task_facts(row)
        check_see_task(params["rights"], sender=facts["from"], holder=facts["agent"])
        left = _checkpoint(store, params["seq"])
        told = {name: params[name] for name in ("why", "children")}
        return {**facts, **left, **told, "attempts": _attempts(store, params["seq"])}
    raise NotFound(f"there is no task {params['seq']}")


def _checkpoint(store: Store, seq: int) -> Params:
    sql = "SELECT attempt, at_ms, length(data) FROM checkpoint WHERE task = ?"
    for attempt, at_ms, size in store.rows(sql, seq):
        return {"checkpoint": {"attempt": attempt, "at_ms": at_ms, "bytes": size}}
    return {}


def _attempts(store: Store, seq: int) -> list[Params]:
    """The attempts at a task, the last one too where it still runs or its result is the task's."""
    sql = """
        SELECT a.attempt, h.text, a.generation, a.session, a.began_ms, a.ended_ms, a.outcome, a.text, a.late_ms,
        a.late_outcome FROM attempt a LEFT JOIN address h ON h.id = a.holder WHERE a.task = ? ORDER BY a.attempt
    """
    names = ("attempt", "agent", "generation", "session", "began_ms", "ended_ms", "outcome", "text")
    found = []
    for *row, late_ms, late_outcome in store.rows(sql, seq):
        late = {} if late_ms is None else {"late_ms": late_ms, "late_outcome": late_outcome}
        found.append({**dict(zip(names, row, strict=True)), **late})
    sql = """
        SELECT t.attempt, h.text, t.generation, t.session, t.began_ms, t.updated_ms, t.state, t.report
        FROM task t JOIN address h ON h.id = t.holder WHERE t.seq = ? AND t.lease > 0
    """
    for *row, report in store.rows(sql, seq):
        last = dict(zip(names, row, strict=False))
        if not TaskState(last["outcome"]).is_over:
            last["ended_ms"] = None
        found.append({**last, "text": str((unpack(report) or {}).get("text", ""))})
    return found


def _trace(store: Store, params: Params) -> Params:
    """The story of a message or task; `params` has what memory knew of it."""
    seq, now_ms, reader = params["seq"], params["now_ms"], params["rights"]
    found = receipts.dead_letter(store.rows, seq)
    if "kind" not in found:
        raise NotFound(f"there is no message or task {seq}")
    if found["kind"] == MESSAGE:
        logged = "SELECT 1 FROM entry e JOIN address a ON a.id = e.channel WHERE a.text = ? AND e.seq = ?"
        is_logged = any(store.rows(logged, found["to"], seq))
        found = receipts.seen_by(found, reader, seq=seq)
        lines = story.message_lines(found, params["moment"], is_logged=is_logged, now_ms=now_ms)
    else:
        task = _task(store, {"seq": seq, "rights": reader, "why": "", "children": []})
        lines = story.task_lines(
            {**found, **task}, task["attempts"], found["dead"], params["moment"]["why"], now_ms=now_ms
        )
    told = [line._asdict() for line in lines]
    return {"seq": seq, "kind": found["kind"], "lines": told[:LIST_ROWS_MAX], "is_cut": len(told) > LIST_ROWS_MAX}


def _tasks(store: Store, params: Params) -> Params:
    where, values = ["1"], []
    if params["state"]:
        where.append("t.state = ?")
        values.append(params["state"])
    if params["before"]:
        where.append("t.seq < ?")
        values.append(params["before"])
    if not allows(params["rights"], OBSERVE):
        where.append("(s.text = ? OR h.text = ?)")
        values += [params["rights"].peer.text] * 2
    sql = f"{_TASK_COLUMNS} WHERE {' AND '.join(where)} ORDER BY t.seq DESC LIMIT ?"
    found: list[Params] = []
    size = 0
    for row in store.rows(sql, *values, params["count"]):
        facts = _task_facts(row)
        facts["body"] = facts["body"][:1000]
        facts["output"] = facts["output"][-1000:]
        size += 500 + len(facts["body"]) + len(facts["output"]) + len(row[9] or b"")
        if size > REPLY_BYTES_MAX:
            break  # the caller goes on with `before`
        found.append(facts)
    return {"tasks": found}


def _outcomes(store: Store, params: Params) -> Params:
    """Where each of some tasks is; with its result, where it is over."""
    found: list[Params] = []
    size = 0
    for seq in params["seqs"]:
        for row in store.rows(f"{_TASK_COLUMNS} WHERE t.seq = ?", seq):
            facts = _task_facts(row)
            check_see_task(params["rights"], sender=facts["from"], holder=facts["agent"])
            del facts["body"]
            size += 500 + len(facts["output"]) + len(row[9] or b"")
            if size > REPLY_BYTES_MAX:
                return {"tasks": found, "is_cut": True}
            found.append(facts)
    return {"tasks": found, "is_cut": False}


def _task_facts(row: tuple[Any, ...]) -> Params:
    seq, state, attempt, holder, updated_ms, sender, to, sent_ms, rank, report, body, output, options, extras = row
    terms = {name: value for name, value in (unpack(options) or {}).items() if name in TERMS}
    kept = {name: value for name, value in (unpack(extras) or {}).items() if _EXTRAS.get(name, "") in (state, "any")}
    return {
        **terms,
        **kept,
        "seq": seq,
        "state": state,
        "attempt": attempt,
        "agent": holder or "",
        "updated_ms": updated_ms,
        "from": sender,
        "to": to,
        "sent_ms": sent_ms,
        "rank": rank,
        "report": unpack(report) or {},
        "body": body,
        "output": output or b"",
    }


def _listed(name: str, columns: tuple[str, ...], rows: Any) -> Params:
    """Make a list of rows that one frame can carry; `is_cut` says that there are more."""
    found: list[Params] = []
    size = 0
    for row in rows:
        size += 200 + sum(len(value) for value in row if isinstance(value, bytes))
        if size > REPLY_BYTES_MAX and found:
            return {name: found, "is_cut": True}
        found.append(dict(zip(columns, row, strict=True)))
    return {name: found, "is_cut": False}


def _channels(store: Store, params: Params) -> Params:
    """Add to each channel where its log begins."""
    found = params["channels"]
    for facts in found:
        number = params["ids"][facts["channel"]]
        rows = store.rows("SELECT seq FROM entry WHERE channel = ? ORDER BY seq LIMIT 1", number)
        facts["first_seq"] = next((seq for (seq,) in rows), 0)
    return {"channels": found}


def _entries(store: Store, params: Params) -> Params:
    """Read a part of a channel's log, in order."""
    order = "DESC" if params["is_newest"] else "ASC"
    sql = f"""
        SELECT e.seq, s.text, m.sent_ms, m.options, length(m.body), coalesce(substr(m.body, 1, ?), x'')
        FROM entry e JOIN message m ON m.seq = e.seq JOIN origin o ON o.id = m.origin JOIN address s ON s.id = o.peer
        WHERE e.channel = ? AND e.seq > ? ORDER BY e.seq {order} LIMIT ?
    """
    rows = store.rows(sql, params["cut_bytes"], params["channel"], params["after"], params["count"])
    found = _listed("entries", ("seq", "from", "sent_ms", "entry", "bytes", "body"), rows)
    for facts in found["entries"]:
        options = unpack(facts["entry"]) or {}
        facts["entry"], facts["removed"] = options.get("entry", ""), options.get("remove", False)
    if params["is_newest"]:
        found["entries"].reverse()
    return {**found, "after": params["after"], "missed": params["missed"]}


_QUERIES: Final[dict[str, Callable[[Store, Params], Params]]] = {
    "channels": _channels,
    "entries": _entries,
    "audit": _audit,
    "dead_letter": _dead_letter,
    "dead_letters": _dead_letters,
    "inbox": _inbox,
    "keys": _keys,
    "message": _message,
    "messages": _messages,
    "outcomes": _outcomes,
    "status": _status,
    "task": _task,
    "tasks": _tasks,
    "thread": _thread,
    "trace": _trace,
}
