"""What the commands of a memory share that have something to say to the hub: which matrix they are, and meeting it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from orchestra.errors import ConnectionFault, KeyFault, PeerError, StateFault, StorageFault
from orchestra.limits import HUB_MEET_S

from .desk import Desk
from .shared import state_option

if TYPE_CHECKING:
    from orchestra.aio import Client
    from orchestra.matrix.identity import Matrix
    from orchestra.matrix.meeting import Met

T = TypeVar("T")

_AWAY: Final = (ConnectionFault, KeyFault, StateFault, PeerError)
"""Why there may be no meeting; what the memory has to say waits in it meanwhile."""


def matrix_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--matrix` and `--state`."""
    command = click.option(
        "--matrix",
        "name",
        envvar="ORCHESTRA_MATRIX",
        default=None,
        show_default="that of the clone you are in",
        help="Matrix to act as; its key must be in the state folder.  [env: ORCHESTRA_MATRIX]",
    )(command)
    return state_option(command)


def matrix_at_desk(desk: Desk, *, name: str | None, state: Path | None) -> Matrix:
    """Return which matrix we are; the first time that is settled with the hub, if it is there."""
    from orchestra.matrix.identity import matrix_for_now, matrix_of

    def find() -> Matrix:
        return matrix_of(desk.store.path, name=name, state=state)

    matrix = matrix_for_now(desk.store.path, name=name, state=state)
    if matrix.has_hub and not matrix.fault and not matrix.let_in.exists():
        from orchestra.matrix import calling

        with suppress(*_AWAY, TimeoutError):
            asyncio.run(asyncio.wait_for(calling.introduce(find), HUB_MEET_S))
        return find()
    return matrix


def meet(desk: Desk, matrix: Matrix, then: Callable[[Client, Met], Awaitable[T]]) -> tuple[T | None, str]:
    """Meet the hub if it is there, and do what comes `then`; return its result, or None and why there was no meeting.

    What the memory has to say waits in it, so a hub that is away is no error.
    """
    if matrix.fault:
        return None, matrix.fault
    if not matrix.has_hub:
        return None, "no hub was ever started or joined here"
    from orchestra.matrix import link

    try:
        return asyncio.run(link.meet(desk.store.path, matrix, project=desk.project, then=then)), ""
    except StorageFault:
        raise
    except _AWAY as error:
        return None, str(error)


async def met_only(client: Client, met: Met) -> Met:
    """Do nothing more at a meeting."""
    return met


async def meet_as(client: Client, state: Path | None) -> None:
    """Let the memory of the clone we are in meet the hub, if it is the matrix that `client` acts as.

    So what is read at the hub next is in the memory already.
    """
    clone = _clone_of(client, state)
    if clone is None:
        return
    from orchestra.matrix.archive import Archive
    from orchestra.matrix.meeting import Meeting
    from orchestra.memory.place import project_of

    memory, matrix = clone
    async with Archive(memory) as archive:
        await Meeting(client, archive, matrix, project=project_of(Path.cwd())).hold()


async def keep_sent(client: Client, state: Path | None, to: str, body: bytes, seq: int, *, is_sealed: bool) -> None:
    """Keep what was sent in the memory of the clone we are in, if it is the matrix that sent it."""
    clone = _clone_of(client, state) if client.address.startswith("matrix/") else None
    if clone is None or to.startswith("channel/") or is_sealed:
        return
    from orchestra.matrix import letters
    from orchestra.matrix.archive import Archive
    from orchestra.matrix.meeting import hub_id
    from orchestra.memory.place import project_of

    memory, matrix = clone
    now_ms = time.time_ns() // 1_000_000
    text = letters.fitting(body.decode("utf-8", "replace"), f"the hub has all {len(body)} bytes of message {seq}")
    letter = letters.written(text, sender=client.address, to=to, project=project_of(Path.cwd()), now_ms=now_ms)
    async with Archive(memory) as archive:
        await archive.do(lambda store: letters.keep_sent(store, letter, hub=hub_id(matrix), seq=seq, now_ms=now_ms))


def _clone_of(client: Client, state: Path | None) -> tuple[Path, Matrix] | None:
    from orchestra.matrix.identity import matrix_for_now
    from orchestra.memory.place import memory_of

    memory = memory_of(Path.cwd())
    if not memory.exists():
        return None
    matrix = matrix_for_now(memory, state=state)
    return (memory, matrix) if str(matrix.address) == client.address and not matrix.fault else None
