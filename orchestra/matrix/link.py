"""The connection of a matrix to its hub: for a moment, as commands need it, or for the life of a service.

Several processes of one matrix may be connected at once: the hub gives each of them every message, and the memory keeps
each once. Where no hub answers nothing is lost: what is to be said waits in the memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from orchestra.errors import ConnectionFault, HubUnreachable, OrchestraError, StateFault
from orchestra.limits import BACKOFF_S_MAX, HUB_MEET_S, OUTBOX_LOOK_S

from . import calling
from .archive import Archive
from .meeting import Meeting, Met, hub_id

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.aio import Client

    from .identity import Matrix

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def meet(
    memory: Path,
    matrix: Matrix,
    *,
    project: str,
    then: Callable[[Client, Met], Awaitable[T]],
    within_s: float = HUB_MEET_S,
) -> T:
    """Connect, hold a meeting, do what comes `then`, and disconnect.

    Raises:
        HubUnreachable: if that takes longer than `within_s`, or no hub answers.
        OrchestraError: what else is wrong with the key, the hub, or the memory.
    """
    async with Archive(memory) as archive:
        try:
            async with asyncio.timeout(within_s):
                client = await calling.connect(matrix)
                try:
                    meeting = Meeting(client, archive, matrix, project=project)
                    reading = asyncio.ensure_future(meeting.read())
                    try:
                        return await then(client, await meeting.hold())
                    finally:
                        reading.cancel()
                        await asyncio.gather(reading, return_exceptions=True)
                finally:
                    await client.close()
        except TimeoutError as exc:
            raise HubUnreachable(f"the hub did not answer within {within_s:g} s") from exc


class Link:
    """A connection that a service keeps for its whole life: it comes about when the hub does, and mends itself.

    `find` says which matrix this is; it is asked again until there is a hub, since only then the name is certain.
    Until then it is `matrix`.
    """

    def __init__(self, archive: Archive, find: Callable[[], Matrix], matrix: Matrix, *, project: str) -> None:
        self._archive = archive
        self._find = find
        self._project = project
        self._meeting: Meeting | None = None
        self._again = asyncio.Event()
        self._tried = asyncio.Event()
        self._reason = "not connected yet"
        self.matrix = matrix

    @property
    def reason(self) -> str:
        """Why the hub is not there; "" while it is."""
        return "" if self._meeting is not None and self._meeting.client.is_connected else self._reason

    @property
    def hub(self) -> str:
        """Which hub it is, or "" where the state folder names none."""
        try:
            return hub_id(self.matrix)
        except (HubUnreachable, StateFault):
            return ""

    async def wait_tried(self) -> None:
        """Wait until it was tried once, so that who asks right after the start finds what a hub has for it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), HUB_MEET_S)

    def client(self) -> Client:
        """Return the client.

        Raises:
            HubUnreachable: if the hub is not there now.
        """
        if self._meeting is None or not self._meeting.client.is_connected:
            raise HubUnreachable(f"the hub is not there: {self._reason}")
        return self._meeting.client

    async def meet(self, *, within_s: float = HUB_MEET_S) -> Met:
        """Say what waits now; nothing where the hub is not there, or does not answer in time: it is said later."""
        if self.reason or self._meeting is None:
            return Met()
        with suppress(TimeoutError, ConnectionFault):
            return await asyncio.wait_for(self._meeting.hold(), within_s)
        return Met()

    async def keep(self) -> None:
        """Be connected, for ever."""
        while True:
            try:
                self.matrix = await calling.introduce(self._find)
                await self._stay(await calling.connect(self.matrix))
                pause_s = BACKOFF_S_MAX
            except OrchestraError as error:
                self._fail(error)
                self._tried.set()
                pause_s = OUTBOX_LOOK_S if error.is_fatal else BACKOFF_S_MAX
            await asyncio.sleep(pause_s)

    async def _stay(self, client: Client) -> None:
        """Hold a meeting at each connection, and now and then; until the hub ends it for good."""
        meeting = self._meeting = Meeting(client, self._archive, self.matrix, project=self._project)
        client.on_connected = lambda welcomed: self._again.set()
        client.on_lost = self._fail
        ends = [asyncio.ensure_future(meeting.read()), asyncio.ensure_future(client.wait_over())]
        try:
            while not any(end.done() for end in ends):
                self._again.clear()
                with suppress(ConnectionFault):
                    await meeting.hold()
                self._tried.set()
                again = asyncio.ensure_future(self._again.wait())
                await asyncio.wait([again, *ends], timeout=OUTBOX_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                again.cancel()
            for end in ends:
                if end.done() and (found := end.exception() or end.result()) is not None:
                    raise found
        finally:
            self._meeting = None
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await client.close()

    def _fail(self, reason: OrchestraError) -> None:
        if str(reason) != self._reason:
            logger.warning("%s is without its hub: %s", self.matrix.address, reason, extra={"action": "hub_lost"})
        self._reason = str(reason)
