"""`orchestra memory message`: messages between matrices, kept in the memory and carried by the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.limits import MEMORY_LIST_ROWS_MAX
from orchestra.memory.words import Kind

from . import inbox
from .desk import Desk, author_option, desk_at, memory_options
from .meet import matrix_at_desk, matrix_options, meet, met_only
from .shared import DONE, print_json, say, text_or_stdin
from .tend import numbers

if TYPE_CHECKING:
    from orchestra.matrix.identity import Matrix
    from orchestra.memory.entry import Entry


@click.command()
@click.argument("text", required=False)
@click.option(
    "--to",
    default=None,
    show_default="every matrix",
    help="NAME of a matrix, an address such as agent/NAME, or a path: the matrix of the clone there.",
)
@click.option("--reply-to", metavar="ID", default=None, help="ID of a message to or from this matrix.")
@click.option("-i", "--inbox", "is_inbox", is_flag=True, help="List what was sent and what came, the newest first.")
@click.option("--unread", "is_unread", is_flag=True, help="List only what nobody has read.")
@click.option("--read", "read", multiple=True, metavar="ID", help="Show it whole and mark it as read; may be repeated.")
@click.option("--clear", "is_clear", is_flag=True, help="Empty the inbox: all of it is read, and shown no more.")
@click.option("--outbox", "is_outbox", is_flag=True, help="List what waits for the hub, and why.")
@click.option(
    "--limit",
    type=click.IntRange(1, MEMORY_LIST_ROWS_MAX),
    default=20,
    show_default=True,
    help="How many to list at most.",
)
@matrix_options
@author_option
@memory_options
@click.pass_context
def message(
    ctx: click.Context,
    /,
    text: str | None,
    to: str | None,
    reply_to: str | None,
    is_inbox: bool,
    is_unread: bool,
    read: tuple[str, ...],
    is_clear: bool,
    is_outbox: bool,
    limit: int,
    author: str,
    memory: Path | None,
    as_json: bool,
    **matrix: Any,
) -> None:
    """Send TEXT to every matrix, or to one: `message "Hello all"`, `message "Done" --to api`, `--to ../api`.

    Without a hub it is kept, and sent once when a command or service of this matrix meets the hub. --inbox, --unread
    and --outbox list, --read ID shows; a message stays unread until --read or --clear. TEXT - is standard input.
    """
    looks = is_inbox + is_unread + is_clear + is_outbox + bool(read)
    if looks + (text is not None) != 1 or ((to or reply_to) and text is None):
        raise click.UsageError("give a TEXT, or one of --inbox, --unread, --read ID, --clear, --outbox")
    with desk_at(memory) as desk:
        me = matrix_at_desk(desk, **matrix)
        if text is not None:
            ctx.exit(_send(desk, me, text, to=to, reply_to=reply_to, author=author, as_json=as_json))
        elif read:
            ctx.exit(inbox.show_messages(desk, me, numbers(read), as_json=as_json))
        elif is_clear:
            ctx.exit(inbox.clear(desk, me, as_json=as_json))
        elif is_outbox:
            ctx.exit(inbox.show_outbox(desk, me, as_json=as_json))
        ctx.exit(inbox.show_inbox(desk, me, only_unread=is_unread, limit=limit, as_json=as_json))


def _send(
    desk: Desk, me: Matrix, text: str, *, to: str | None, reply_to: str | None, author: str, as_json: bool
) -> int:
    from orchestra.matrix import letters, meeting, unsent

    text = text_or_stdin(text).decode("utf-8", "replace")
    answered = _answered(desk, reply_to)
    base = meeting.seq_at_hub(desk.store, answered.id, me) if answered else None
    recipient = recipient_of(to, me) if to is not None else _answer_to(answered, me)
    letter = letters.written(
        text,
        sender=str(me.address),
        to=recipient,
        thread=(answered.thread or str(base or "")) if answered else "",
        project=desk.project,
        author=author,
        now_ms=desk.now_ms,
    )
    stored = unsent.add(desk.store, letter, base=base, now_ms=desk.now_ms)
    met, reason = meet(desk, me, met_only)
    if met is not None and (refused := met.refused.pop(stored.id, None)):
        if not refused.is_temporary:
            unsent.drop(desk.store, [stored.id])
            raise refused
        reason = str(refused)
    seq = meeting.seq_at_hub(desk.store, stored.id, me)
    if as_json:
        print_json({"id": stored.id, "to": recipient, "is_sent": seq is not None, "seq": seq, "reason": reason})
        return DONE
    what = f"message #{stored.id} to {inbox.shown_to(recipient)}"
    click.echo(f"{what} is sent: {seq} at the hub" if seq is not None else f"{what} is kept")
    if seq is None:
        say(f"it is sent when a command or service of {me.address} meets the hub ({reason})")
    inbox.tell_more(met, besides=stored.id)
    return DONE


def _answered(desk: Desk, reply_to: str | None) -> Entry | None:
    """Return the message that is answered."""
    if reply_to is None:
        return None
    from orchestra.errors import BadOption
    from orchestra.memory import notebook

    (answered,) = notebook.get(desk.store, numbers((reply_to,)))
    if answered.kind != Kind.MESSAGE:
        raise BadOption(f"#{answered.id} is a {answered.kind}, not a message")
    return answered


def _answer_to(answered: Entry | None, me: Matrix) -> str:
    """Return who gets a message that names nobody."""
    if answered is None:
        return "*"
    return answered.recipient if answered.sender == str(me.address) else answered.sender


def recipient_of(to: str, me: Matrix) -> str:
    """Return the address that `--to` means: a path is the clone there, a bare word a matrix.

    Raises:
        BadAddress, StateFault: if it is none of them.
    """
    from orchestra.address import parse_address, parse_peer
    from orchestra.matrix.identity import matrix_at

    if to == "*":
        return to
    if to.startswith((".", "~", "/")) or to.endswith("/") or to.count("/") > 1:
        return str(matrix_at(Path(os.path.expanduser(to)), me.state))  # noqa: PTH111 - Path would turn ~x into a folder
    return str(parse_peer(to)) if "/" in to else str(parse_address(f"matrix/{to}"))
