"""`orchestra send`, `orchestra inbox` and `orchestra read`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestra.address import Kind
from orchestra.stage import STAGES
from orchestra.task import Priority

from .inside import tell_agent_s_inbox
from .meet import keep_sent
from .shared import (
    FAILED,
    Duration,
    ago,
    clean,
    client_options,
    day_and_time,
    fail,
    preview,
    print_json,
    say,
    table,
    text_or_stdin,
    with_client,
)

if TYPE_CHECKING:
    from orchestra.aio import Client
    from orchestra.conversation import Message


@click.command()
@click.argument("to", metavar="TO")
@click.argument("text", required=False)
@click.option(
    "--priority",
    type=click.Choice([each.value for each in Priority]),
    default=None,
    show_default="normal",
    help="What is more urgent is taken first.",
)
@click.option("--reply-to", type=click.IntRange(1), default=None, help="ID of a message to or from you.")
@click.option("--expires", "expires_s", type=Duration(), default=None, help="Give it up when not delivered by then.")
@click.option("--key", default=None, help="Send once: the same key again changes nothing and prints the same ID.")
@click.option("--seal", is_flag=True, help="Encrypt it for TO alone; the hub cannot read it.")
@click.option(
    "--wait",
    type=click.Choice(STAGES[1:]),
    default=None,
    show_default="not at all",
    help="Return only when it was delivered, read, or acked (dealt with).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=None,
    show_default="for ever",
    help="Seconds to --wait; the message stays stored.",
)
@client_options
def send(
    to: str,
    text: str | None,
    priority: str | None,
    reply_to: int | None,
    expires_s: float | None,
    key: str | None,
    seal: bool,
    wait: str | None,
    timeout: float | None,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Send TEXT to TO: agent/NAME, matrix/NAME, operator/NAME, channel/NAME, or * for every matrix.

    Without TEXT (or with -) it is read from standard input. When this returns, the message is on the hub's disk; a
    recipient who is away gets it on return. With --wait it returns when the recipient has it: 0 when the stage is
    reached, 75 when --timeout is over, 1 when the message is dead or nobody is there to get it.
    """
    if timeout is not None and wait is None:
        raise click.UsageError("--timeout says how long to --wait; name the stage to wait for")
    body = text_or_stdin(text)

    def told(seq: int, stage: str) -> None:
        if as_json:
            print_json({"seq": seq, "to": to, "stage": stage})
        else:
            click.echo(f"message {seq} to {to} is {stage}")

    async def sending(client: Client) -> None:
        if wait is None:
            seq = await client.send(
                to, body, priority=priority, reply_to=reply_to, expires_s=expires_s, key=key, seal=seal
            )
            told(seq, STAGES[0])
            await keep_sent(client, state, to, body, seq, is_sealed=seal)
            if to == Kind.EVERYONE and not (await client.call("message.get", seq=seq))["recipients"]:
                from orchestra.aio import FOR_NOBODY

                say(FOR_NOBODY)
            return
        sent = await client.send_watched(
            to, body, priority=priority, reply_to=reply_to, expires_s=expires_s, key=key, seal=seal
        )
        await keep_sent(client, state, to, body, sent.seq, is_sealed=seal)
        try:
            await sent.reached(wait, timeout_s=timeout)
        finally:
            told(sent.seq, sent.stage)

    with_client(state, address, sending)


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@click.option("--thread", type=click.IntRange(1), default=None, help="The whole thread of this message, read or not.")
@client_options
@click.pass_context
def inbox(
    ctx: click.Context, limit: int, thread: int | None, state: Path | None, address: str | None, as_json: bool
) -> None:
    """Show the unread messages to you; they stay unread until `orchestra read`."""

    async def looking(client: Client) -> list[Message]:
        if address is None:
            tell_agent_s_inbox(client.address)
        if thread is None:
            return await client.inbox(count=limit)
        return await client.thread(thread, count=limit)

    messages = with_client(state, address, looking)
    if as_json:
        print_json([facts(message) for message in messages])
    elif messages:
        now_ms = time.time_ns() // 1_000_000
        rows = [
            [
                str(message.seq),
                message.sender,
                ago(message.time_ms, now_ms=now_ms),
                str(message.reply_to or ""),
                line_of(message),
            ]
            for message in messages
        ]
        table(["ID", "FROM", "SENT", "REPLY TO", "TEXT"], rows)
    else:
        say("no unread messages")
        ctx.exit(FAILED)


@click.command()
@click.argument("seqs", metavar="ID...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "is_all", is_flag=True, help="All unread messages.")
@click.option("--ack", is_flag=True, help="Mark them as dealt with, not only as read.")
@client_options
def read(
    seqs: tuple[int, ...], is_all: bool, ack: bool, state: Path | None, address: str | None, as_json: bool
) -> None:
    """Show messages in full and mark them as read.

    With --ack also those that were read before, which leaves no doubt that they are dealt with.
    """
    if not seqs and not is_all:
        raise click.UsageError("name the messages (`orchestra inbox` lists them), or say --all")

    async def reading(client: Client) -> list[Message]:
        if is_all:
            found = await client.inbox(count=1000)
        else:
            listed = [await client.inbox(after=seq - 1, count=1) for seq in sorted(set(seqs))]
            found = [
                each[0] for each, seq in zip(listed, sorted(set(seqs)), strict=True) if each and each[0].seq == seq
            ]
        if found:
            await client.mark_read((message.seq for message in found), ack=ack)
        if ack:
            found += await _dealt_with(client, sorted(set(seqs) - {message.seq for message in found}))
        return found

    messages = with_client(state, address, reading)
    if as_json:
        print_json([facts(message) for message in messages])
    for message in [] if as_json else messages:
        sent = day_and_time(message.time_ms)
        reply = f"  reply to {message.reply_to}, thread {message.thread}" if message.reply_to else ""
        click.echo(click.style(f"{message.seq}  from {message.sender}  {sent}{reply}", bold=True))
        if message.sealed_by:
            click.echo(f"sealed by the key {message.sealed_by}")
        click.echo(clean(shown(message)) + "\n")
    missing = set(seqs) - {message.seq for message in messages}
    if missing:
        fail(f"no unread message {', '.join(map(str, sorted(missing)))} to you; see: orchestra inbox", FAILED)


async def _dealt_with(client: Client, seqs: list[int]) -> list[Message]:
    """Say of messages that were read before that they are dealt with; return those that are this peer's."""
    found = []
    for seq in seqs:
        if await client.mark_read([seq], ack=True):
            found += [message for message in await client.thread(seq, count=1000) if message.seq == seq]
    return found


def facts(message: Message) -> dict[str, object]:
    return {
        "seq": message.seq,
        "from": message.sender,
        "to": message.to,
        "sent_ms": message.time_ms,
        "reply_to": message.reply_to,
        "thread": message.thread,
        "sealed_by": message.sealed_by,
        "is_sealed": message.is_sealed,
        "text": "" if message.is_sealed else message.text,
    }


def line_of(message: Message) -> str:
    return preview(shown(message), 100)


def shown(message: Message) -> str:
    return "(sealed; it can't be opened with the key that is here)" if message.is_sealed else message.text
