"""What `orchestra memory message` lists and shows: what came, what was sent, and what waits for the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .desk import Desk
from .meet import meet, met_only
from .shared import DONE, FAILED, ago, clean, print_json, say, table

if TYPE_CHECKING:
    from orchestra.matrix.identity import Matrix
    from orchestra.matrix.meeting import Met
    from orchestra.memory.entry import Entry

_PREVIEW_CHARS = 100


def show_inbox(desk: Desk, me: Matrix, *, only_unread: bool, limit: int, as_json: bool) -> int:
    from orchestra.matrix import letters, unsent

    met, reason = meet(desk, me, met_only)
    found = letters.inbox(
        desk.store, me=str(me.address), only_unread=only_unread, with_sent=not only_unread, limit=limit
    )
    waits = {item.entry.id: item.error for item in unsent.waiting(desk.store)}
    if as_json:
        print_json([_facts(entry, me, waits) for entry in found])
        return DONE if found else FAILED
    if found:
        rows = [
            [
                f"#{each.id}",
                each.sender,
                shown_to(each.recipient),
                ago(each.created_ms, now_ms=desk.now_ms),
                _state(each, me, waits),
                _preview(letters.text_of(each)),
            ]
            for each in found
        ]
        table(["ID", "FROM", "TO", "SENT", "STATE", "TEXT"], rows)
    unread = letters.unread_count(desk.store)
    say(f"{unread:,} unread" if unread else "no unread messages")
    _tell_away(reason)
    tell_more(met)
    return DONE if found else FAILED


def show_messages(desk: Desk, me: Matrix, ids: list[int], *, as_json: bool) -> int:
    from orchestra.matrix import letters

    found = letters.mark_read(desk.store, ids, now_ms=desk.now_ms)
    met, reason = meet(desk, me, met_only)
    if as_json:
        print_json([_facts(entry, me, {}) for entry in found])
        return DONE
    for entry in found:
        thread = f", thread {entry.thread}" if entry.thread else ""
        about = f"from {entry.sender} to {shown_to(entry.recipient)}, {ago(entry.created_ms, now_ms=desk.now_ms)}"
        click.echo(click.style(clean(f"#{entry.id}  {about}{thread}"), bold=True))
        click.echo(clean(letters.text_of(entry)) + "\n")
    _tell_away(reason, "the hub is told that they were read when it is back")
    tell_more(met)
    return DONE


def clear(desk: Desk, me: Matrix, *, as_json: bool) -> int:
    from orchestra.matrix import letters

    count = letters.clear(desk.store, me=str(me.address), now_ms=desk.now_ms)
    met, reason = meet(desk, me, met_only)
    if as_json:
        print_json({"cleared": count})
    else:
        click.echo(f"{count:,} {'message' if count == 1 else 'messages'} cleared")
        _tell_away(reason, "the hub is told that they were read when it is back")
        tell_more(met)
    return DONE


def show_outbox(desk: Desk, me: Matrix, *, as_json: bool) -> int:
    from orchestra.matrix import unsent

    met, reason = meet(desk, me, met_only)
    found = unsent.waiting(desk.store)
    if as_json:
        facts = [
            {"id": each.entry.id, "kind": each.entry.kind, "to": each.entry.recipient, "error": each.error}
            for each in found
        ]
        print_json({"waiting": facts, "reason": reason})
        return DONE if found else FAILED
    if found:
        rows = [
            [f"#{each.entry.id}", each.entry.kind, shown_to(each.entry.recipient), each.entry.title, each.error]
            for each in found
        ]
        table(["ID", "KIND", "TO", "TEXT", "REFUSED"], rows)
        say("what is refused is tried again at each meeting; `orchestra memory forget ID` takes it out")
    else:
        say("nothing waits for the hub")
    _tell_away(reason)
    tell_more(met)
    return DONE if found else FAILED


def _facts(entry: Entry, me: Matrix, waits: dict[int, str]) -> dict[str, Any]:
    from orchestra.matrix import letters

    return {
        "id": entry.id,
        "from": entry.sender,
        "to": entry.recipient,
        "sent_ms": entry.created_ms,
        "thread": entry.thread,
        "state": _state(entry, me, waits),
        "text": letters.text_of(entry),
    }


def _state(entry: Entry, me: Matrix, waits: dict[int, str]) -> str:
    if entry.id in waits:
        return "refused" if waits[entry.id] else "waiting"
    if entry.read_ms is None:
        return "new"
    return "sent" if entry.sender == str(me.address) else "read"


def shown_to(recipient: str) -> str:
    return {"*": "every matrix", "": ""}.get(recipient, recipient)


def _preview(text: str) -> str:
    from orchestra.memory.entry import one_line, shortened

    return shortened(one_line(text), _PREVIEW_CHARS)


def _tell_away(reason: str, more: str = "this is what the memory knows") -> None:
    if reason:
        say(f"{more} ({reason})")


def tell_more(met: Met | None, *, besides: int = 0) -> None:
    """Tell what else came of a meeting."""
    if met is None:
        return
    others = [id for id in met.sent if id != besides]
    if others:
        say(f"what waited was sent: {', '.join(f'#{id}' for id in others)}")
    for id, error in met.refused.items():
        say(f"#{id} was refused: {error}; `orchestra memory forget {id}` takes it out of the outbox")
