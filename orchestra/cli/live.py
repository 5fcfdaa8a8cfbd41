"""`orchestra request` and `orchestra respond`: asked now, answered now, stored nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestra.ending import how_ended
from orchestra.errors import PeerError, TooLarge
from orchestra.limits import BODY_BYTES_MAX, RESPONDING_MAX

from .shared import clean, client_options, print_json, print_json_line, say, text_or_stdin, with_client

if TYPE_CHECKING:
    from orchestra.conversation import Requested


@click.command()
@click.argument("to", metavar="TO")
@click.argument("text", required=False)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the answer.",
)
@client_options
def request(
    to: str, text: str | None, timeout_s: float, state: Path | None, address: str | None, as_json: bool
) -> None:
    """Ask the peer TO something live and print its answer; nothing is stored.

    Without TEXT (or with -) it is read from standard input. Who is not connected, or answers no requests, is offline at
    once (75). A peer answers with `orchestra respond`, or from Python.
    """
    body = text_or_stdin(text)
    found = with_client(state, address, lambda client: client.request(to, body, timeout_s=timeout_s))
    if as_json:
        print_json({"from": to, "text": found.decode("utf-8", "replace")})
    elif sys.stdout.isatty():
        click.echo(clean(found.decode("utf-8", "replace")).rstrip("\n"))
    else:
        sys.stdout.buffer.write(found)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@client_options
def respond(command: tuple[str, ...], state: Path | None, address: str | None, as_json: bool) -> None:
    """Answer each live request to you with what COMMAND prints, until Ctrl-C.

    COMMAND gets the request on standard input and who asks in ORCHESTRA_REQUEST_FROM. It is killed at the asker's
    deadline; where it ends with another exit code than 0, the asker is told so.
    """
    from orchestra import aio

    if shutil.which(command[0]) is None:
        raise click.UsageError(f"there is no program {command[0]}")

    async def responding() -> None:
        room = asyncio.Semaphore(RESPONDING_MAX)

        async def answer(requested: Requested) -> bytes:
            async with room:
                found = await _run(command, requested)
            if as_json:
                print_json_line({"from": requested.sender, "bytes": len(requested.body), "answer_bytes": len(found)})
            else:
                click.echo(f"answered {requested.sender} with {len(found)} bytes")
            return found

        async with aio.connect(state=state, address=address, on_request=answer) as client:
            say(f"answers the live requests to {client.address}; Ctrl-C ends it")
            raise await client.wait_over()

    asyncio.run(responding())


async def _run(command: tuple[str, ...], requested: Requested) -> bytes:
    """Return what `command` prints about a request. Cancelling kills it with its children.

    Raises:
        PeerError: if it fails.
        TooLarge: if it prints more than a body may have.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "ORCHESTRA_REQUEST_FROM": requested.sender},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = asyncio.ensure_future(_feed(process.stdin, requested.body))
    try:
        printed = await _read(process.stdout)
        if len(printed) > BODY_BYTES_MAX:
            raise TooLarge(f"{command[0]} printed more than {BODY_BYTES_MAX} bytes")
        status = await process.wait()
    finally:
        feeding.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status:
        raise PeerError(f"{command[0]} ended with {how_ended(status)}")
    return printed


async def _read(pipe: asyncio.StreamReader) -> bytes:
    """Return all that comes, or one byte more than a body may have."""
    try:
        return await pipe.readexactly(BODY_BYTES_MAX + 1)
    except asyncio.IncompleteReadError as end:
        return end.partial


async def _feed(pipe: asyncio.StreamWriter, body: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it need not read what it is asked
        pipe.write(body)
        await pipe.drain()
        pipe.close()
