"""Receipts as the database holds them: how far a message has come for one recipient. Pure.

It reads through the function it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from orchestra.address import Kind, parse_address
from orchestra.errors import NotFound
from orchestra.limits import LIST_ROWS_MAX
from orchestra.stage import ACKED, DEAD, DELIVERED, READ, STAGES
from orchestra.wire import MESSAGE

from . import grants
from .unpack import unpack

Rows = Callable[..., Iterator[tuple[Any, ...]]]
"""Reads the database: SQL and its parameters to rows."""

_RANKS: Final = "(0, 1, 2, 3)"


class Mail(NamedTuple):
    """One message in a mailbox. `rank` is None where it has left the inbox; `stage` is the latest that was said."""

    seq: int
    rank: int | None
    is_delivered: bool
    stage: int


def mail(rows: Rows, recipient: int, seq: int) -> Mail:
    """Return where message `seq` is for `recipient`; of no message of its own it is at stage 0 and nowhere."""
    said = receipts_of(rows, recipient, seq)
    stage = said[-1][0] if said else 0
    sql = f"SELECT rank, delivered_ms FROM delivery WHERE recipient = ? AND rank IN {_RANKS} AND seq = ?"
    for rank, delivered_ms in rows(sql, recipient, seq):
        return Mail(seq, rank, delivered_ms is not None, stage)
    return Mail(seq, None, False, stage)


def receipts_of(rows: Rows, recipient: int, seq: int) -> list[tuple[int, int, int, int]]:
    """Return what was said of `seq`: (stage, ms, session, generation), the latest stage last."""
    found = []
    for stage in (DELIVERED, READ, ACKED):
        # Ranges of one stage never overlap, so the nearest that begins before is the only one that may hold it.
        sql = """
            SELECT last_seq, at_ms, session, generation FROM receipt
            WHERE recipient = ? AND stage = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1
        """
        for last_seq, at_ms, session, generation in rows(sql, recipient, stage, seq):
            if last_seq >= seq:
                found.append((stage, at_ms, session, generation))
    return found


def failed_deliveries(rows: Rows, recipient: int, seq: int) -> list[dict[str, Any]]:
    """Return the attempts at delivering `seq` to `recipient` that came to nothing, in order."""
    sql = """
        SELECT attempt, session, generation, at_ms, why FROM failed_delivery
        WHERE seq = ? AND recipient = ? ORDER BY attempt
    """
    names = ("attempt", "session", "generation", "at_ms", "why")
    return [dict(zip(names, row, strict=True)) for row in rows(sql, seq, recipient)]


def message(rows: Rows, seq: int) -> dict[str, Any] | None:
    """Return one message or task with where it is for each recipient, or None; see `seen_by` before it is shown."""
    sql = """
        SELECT m.kind, s.text, r.text, m.recipient, m.sent_ms, m.rank, m.options, m.body
        FROM message m JOIN origin o ON o.id = m.origin
        JOIN address s ON s.id = o.peer JOIN address r ON r.id = m.recipient WHERE m.seq = ?
    """
    for kind, sender, to, recipient, sent_ms, rank, options, body in rows(sql, seq):
        return {
            "seq": seq,
            "kind": kind,
            "from": sender,
            "to": to,
            "sent_ms": sent_ms,
            "rank": rank,
            "options": unpack(options) or {},
            "body": body,
            "recipients": _recipients(rows, seq, recipient, to) if kind == MESSAGE else [],
        }
    return None


def heading(rows: Rows, seq: int, reader: int) -> dict[str, Any] | None:
    """Return who wrote a message or task to whom with which options, and whether it ever was for the peer `reader`."""
    sql = """
        SELECT m.kind, s.text, r.text, m.options FROM message m JOIN origin o ON o.id = m.origin
        JOIN address s ON s.id = o.peer JOIN address r ON r.id = m.recipient WHERE m.seq = ?
    """
    for kind, sender, to, options in rows(sql, seq):
        found = where(rows, reader, seq)
        is_recipient = found["is_unread"] or bool(found["receipts"])
        return {"kind": kind, "from": sender, "to": to, "options": unpack(options) or {}, "is_recipient": is_recipient}
    return None


def seen_by(found: dict[str, Any] | None, rights: grants.Rights, *, seq: int) -> dict[str, Any]:
    """Return of `message` what a reader may see: its sender and who may observe all, a recipient its own receipts.

    Raises:
        NotFound: if there is no such message.
        NotAllowed: if the reader may not see it, or not read its channel.
    """
    if found is None:
        raise NotFound(f"there is no message {seq}")
    if found["kind"] != MESSAGE:
        raise NotFound(f"{seq} is a task; see: orchestra task show {seq}")
    reader, recipients = rights.peer.text, found["recipients"]
    if parse_address(found["to"]).kind is not Kind.CHANNEL:
        grants.check_see_message(rights, sender=found["from"], recipients=[each["recipient"] for each in recipients])
    elif reader != found["from"]:
        grants.check(rights, grants.READ, found["to"])
    if reader != found["from"] and not grants.allows(rights, grants.OBSERVE):
        recipients = [each for each in recipients if each["recipient"] == reader]
        found = {**found, "dead": [each for each in found.get("dead", ()) if each["recipient"] == reader]}
    return {**found, "recipients": recipients[:LIST_ROWS_MAX], "is_cut": len(recipients) > LIST_ROWS_MAX}


def _recipients(rows: Rows, seq: int, recipient: int, to: str) -> list[dict[str, Any]]:
    """Return where message `seq` is for each peer it went to; a channel's entry goes to nobody in particular."""
    kind = parse_address(to).kind
    if kind is Kind.CHANNEL:
        return []
    if kind is not Kind.EVERYONE:
        return [{"recipient": to, **where(rows, recipient, seq)}]
    matrices = rows("SELECT a.id, a.text FROM peer p JOIN address a ON a.id = p.id WHERE a.text GLOB 'matrix/*'")
    found = [{"recipient": text, **where(rows, number, seq)} for number, text in matrices]
    return [each for each in found if each["is_unread"] or each["receipts"]]


def where(rows: Rows, recipient: int, seq: int) -> dict[str, Any]:
    """Return how far message `seq` is for `recipient`: its stage, why it is dead, every receipt and failed attempt."""
    attempt, is_unread = 0, False
    sql = f"SELECT attempt FROM delivery WHERE recipient = ? AND rank IN {_RANKS} AND seq = ?"
    for row in rows(sql, recipient, seq):
        attempt, is_unread = row[0], True
    said: list[dict[str, Any]] = [
        {"stage": STAGES[stage], "at_ms": at_ms, "session": session, "generation": generation, "reason": ""}
        for stage, at_ms, session, generation in receipts_of(rows, recipient, seq)
    ]
    for each in _dead(rows, seq):
        if each["id"] == recipient:
            said.append(
                {"stage": DEAD, "at_ms": each["at_ms"], "session": 0, "generation": 0, "reason": each["reason"]}
            )
    last = said[-1] if said else {"stage": STAGES[0], "reason": ""}
    return {
        "stage": last["stage"],
        "reason": last["reason"],
        "attempt": attempt,
        "is_unread": is_unread,
        "receipts": said,
        "failed": failed_deliveries(rows, recipient, seq),
    }


def dead_letter(rows: Rows, seq: int) -> dict[str, Any]:
    """Return a message or task with its `dead` letters: for each recipient the reason, and what became of it."""
    found = message(rows, seq) or {"seq": seq}
    return {**found, "dead": _dead(rows, seq)}


def _dead(rows: Rows, seq: int) -> list[dict[str, Any]]:
    sql = """
        SELECT r.text, d.recipient, d.reason, d.at_ms, d.closed_ms, coalesce(c.text, ''), coalesce(d.resent_seq, 0)
        FROM dead d JOIN address r ON r.id = d.recipient LEFT JOIN address c ON c.id = d.closed_by WHERE d.seq = ?
    """
    names = ("recipient", "id", "reason", "at_ms", "closed_ms", "closed_by", "resent_seq")
    return [dict(zip(names, row, strict=True)) for row in rows(sql, seq)]
