"""`orchestra dead`: what could not be delivered or done, and why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from orchestra.wire import TASK

from .group import Group
from .shared import FAILED, ago, clean, client_options, day_and_time, preview, print_json, say, table, with_client


@click.group(cls=Group)
def dead() -> None:
    """Show what is dead and why; send it again, or drop it."""


@dead.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@client_options
@click.pass_context
def list_(ctx: click.Context, limit: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """List the dead letters that nobody dealt with, newest first: yours, or everybody's for operators."""
    found = with_client(state, address, lambda client: client.call("dead.list", count=limit))["dead"]
    if as_json:
        print_json([_facts(each) for each in found])
    elif found:
        now_ms = time.time_ns() // 1_000_000
        rows = [
            [
                str(each["seq"]),
                each["from"],
                each["to"],
                ago(each["at_ms"], now_ms=now_ms),
                each["reason"],
                _preview(each),
            ]
            for each in found
        ]
        table(["ID", "FROM", "TO", "DIED", "REASON", "TEXT"], rows)
    else:
        say("no dead letters")
        ctx.exit(FAILED)


@dead.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@client_options
def show(seq: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """Show one dead letter in full, with the reason and what became of it."""
    found = with_client(state, address, lambda client: client.call("dead.get", seq=seq))
    if as_json:
        print_json({**_facts(found), "dead": found["dead"], "options": found["options"]})
        return
    kind = "task" if found["kind"] == TASK else "message"
    click.echo(
        click.style(
            f"{kind} {seq}  from {found['from']}  to {found['to']}  {day_and_time(found['sent_ms'])}", bold=True
        )
    )
    for each in found["dead"]:
        end = ""
        if each["resent_seq"]:
            end = f"; sent again as {each['resent_seq']} by {each['closed_by']} {day_and_time(each['closed_ms'])}"
        elif each["closed_ms"]:
            end = f"; dropped by {each['closed_by']} {day_and_time(each['closed_ms'])}"
        click.echo(f"for {each['recipient']}: {each['reason']} {day_and_time(each['at_ms'])}{end}")
    click.echo(clean(_title(found["body"]) if found["kind"] == TASK else _text(found)))
    if found["kind"] == TASK:
        say(f"see also: orchestra task show {seq}")


@dead.command()
@click.argument("seqs", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@client_options
def resend(seqs: tuple[int, ...], state: Path | None, address: str | None, as_json: bool) -> None:
    """Send dead messages again, each to those it did not reach; all of them or none.

    A message that was sent again already is not sent twice. A dead task is tried again with `orchestra task retry`.
    """
    done = with_client(state, address, lambda client: client.call("dead.resend", seqs=list(seqs)))["resent"]
    if as_json:
        print_json(done)
        return
    for each in done:
        click.echo(f"message {each['seq']} to {each['recipient']} is sent again as {each['resent_seq']}")


@dead.command()
@click.argument("seqs", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@client_options
def drop(seqs: tuple[int, ...], state: Path | None, address: str | None, as_json: bool) -> None:
    """Take dead letters off the list; `dead show` and `trace` still tell of them."""
    dropped = with_client(state, address, lambda client: client.call("dead.drop", seqs=list(seqs)))["dropped"]
    if as_json:
        print_json({"dropped": dropped})
    else:
        click.echo(f"{dropped} dead {'letter is' if dropped == 1 else 'letters are'} dropped")


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    kind = "task" if found["kind"] == TASK else "message"
    named: dict[str, Any] = {
        name: found[name] for name in ("seq", "from", "to", "reason", "at_ms", "sent_ms") if name in found
    }
    return {**named, "kind": kind, "text": _title(found["body"]) if kind == "task" else _text(found)}


def _preview(found: dict[str, Any]) -> str:
    return preview(_title(found["body"]) if found["kind"] == TASK else _text(found), 60)


def _text(found: dict[str, Any]) -> str:
    text: str = found["body"].decode("utf-8", "replace")
    return text


def _title(body: bytes) -> str:
    """Return one line of a task; a list holds only the head of a long one, which can't be read."""
    from orchestra.errors import BadOption
    from orchestra.job import decode_job

    try:
        return decode_job(body).title
    except BadOption:
        return "(see: orchestra task show)"
