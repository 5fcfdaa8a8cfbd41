"""`orchestra watch`: messages to you as they come, or what becomes of those you sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestra.errors import DeadlinePassed
from orchestra.stage import DEAD, STAGES

from .mail import facts, line_of
from .shared import DONE, FAILED, clean, client_options, print_json_line, with_client

if TYPE_CHECKING:
    from orchestra.aio import Client
    from orchestra.conversation import Message, Receipted

_UNREAD_MAX = 1000


@click.command()
@click.argument("seqs", metavar="[ID]...", nargs=-1, type=click.IntRange(1))
@click.option(
    "--until",
    type=click.Choice(STAGES[1:]),
    default="read",
    show_default=True,
    help="With IDs: end when all of them are that far, or dead.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=None,
    show_default="for ever",
    help="With IDs: end after so many seconds in any case.",
)
@client_options
@click.pass_context
def watch(
    ctx: click.Context,
    seqs: tuple[int, ...],
    until: str,
    timeout: float | None,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Show the unread messages to you, and each that comes, until Ctrl-C; they stay unread.

    With IDs of messages that you sent: show each receipt as it comes. Ends with 0 when all of them were read, with 1 if
    one is dead, with 75 when --timeout is over.
    """
    if seqs:
        ctx.exit(with_client(state, address, lambda client: _follow(client, seqs, until, timeout, as_json=as_json)))
    with_client(state, address, lambda client: _show_incoming(client, as_json=as_json))


async def _show_incoming(client: Client, *, as_json: bool) -> None:
    async for message in _incoming(client):
        if as_json:
            print_json_line(facts(message))
        else:
            line = (str(message.seq), message.sender, _clock(message.time_ms), line_of(message))
            click.echo("\t".join(clean(cell) for cell in line))


async def _incoming(client: Client) -> AsyncIterator[Message]:
    """Give what is unread, then what comes; of the first some may be on their way too."""
    unread = await client.inbox(count=_UNREAD_MAX)
    known = {message.seq for message in unread}
    for message in unread:
        yield message
    async for message in client.messages(peek=True):
        if message.seq not in known:
            yield message


async def _follow(client: Client, seqs: tuple[int, ...], until: str, timeout_s: float | None, *, as_json: bool) -> int:
    """Show the receipts of messages until each is at its end; return the exit code."""
    ends: list[bool] = []

    async def follow(seq: int) -> None:
        message = await client.watch_message(seq)
        async for receipt in message.follow(until):
            _show(receipt, as_json=as_json)
        ends.append(message.stage == DEAD)

    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*map(follow, dict.fromkeys(seqs)))
    except TimeoutError as exc:
        waiting = len(set(seqs)) - len(ends)
        raise DeadlinePassed(
            f"{waiting} of them are not {until} after {timeout_s:g} s; see: orchestra trace ID"
        ) from exc
    return FAILED if any(ends) else DONE


def _show(receipt: Receipted, *, as_json: bool) -> None:
    if as_json:
        print_json_line(receipt._asdict())
        return
    why = f": {receipt.reason}" if receipt.reason else ""
    when = f"  {_clock(receipt.at_ms)}" if receipt.at_ms else ""
    click.echo(clean(f"message {receipt.seq} to {receipt.recipient} is {receipt.stage}{why}{when}"))


def _clock(ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(ms / 1000))
