"""The worker of an agent whose tasks come as files too: both take the same slots, and no task is run twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from orchestra.aio import Client
from orchestra.conversation import Assigned
from orchestra.errors import PeerError
from orchestra.job import decode_job

from .filework import FileWork
from .oldfile import COMPLETED, OldResult
from .output import Output
from .plan import check_sender
from .process import Ending
from .settings import AgentSettings
from .slots import Slots
from .worker import Running, Worker

logger = logging.getLogger(__name__)

_TELL_S: Final = 2.0  # between two looks whether there is something to tell,
_REPEAT_S: Final = 30.0  # and until it is told again


class SharingWorker(Worker):
    """A worker beside a `FileWork`."""

    def __init__(self, settings: AgentSettings, client: Client, *, slots: Slots, files: FileWork) -> None:
        super().__init__(settings, client)
        self._slots = slots
        self._files = files
        self._counted: set[int] = set()  # leases of the tasks that take a slot

    async def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        def begin() -> None:
            self._slots.offer = lambda count: None if self._draining.is_set() else self._client.offer(count)
            self._slots.offer(self._slots.left_for_hub)
            ready()

        telling = asyncio.ensure_future(self._tell())
        try:
            await super().run(ready=begin)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self) -> None:
        """Tell the hub how many tasks come by file: soon after that changed, and now and then, for it may forget."""
        told: list[int] = []
        told_at = -_REPEAT_S
        while True:
            minutes, now = self._files.minutes(), self._client.loop.time()
            if minutes and (minutes != told or now - told_at >= _REPEAT_S):
                try:
                    await self._client.call("files.tell", minutes=minutes)
                except PeerError as error:
                    logger.warning("the hub can't be told how many tasks come by file: %s", error)
                    return
                told, told_at = minutes, now
            await asyncio.sleep(_TELL_S)

    def _begin(self, assigned: Assigned) -> None:
        if not self._slots.is_free:
            self._client.give_back(assigned, "a file took the last slot meanwhile")
            return
        super()._begin(assigned)

    async def _work(self, running: Running) -> None:
        self._slots.begin_by_hub()
        self._counted.add(running.assigned.lease)
        try:
            await super()._work(running)
        finally:
            self._uncount(running)

    async def _report(self, running: Running, ending: Ending, output: Output) -> None:
        self._uncount(running)  # the hub may give the next task with its answer
        await super()._report(running, ending, output)

    def _uncount(self, running: Running) -> None:
        if running.assigned.lease in self._counted:
            self._counted.remove(running.assigned.lease)
            self._slots.end_by_hub()

    async def _run(self, running: Running, output: Output) -> Ending:
        key = str(running.assigned.options.get("key", ""))
        try:
            check_sender(running.assigned.sender, accepted=self._settings.accept_from)
            job = decode_job(running.assigned.body)
        except PeerError:  # which the worker tells
            key = ""
        if not key or key.startswith("file:"):  # which a bridge has claimed
            return await super()._run(running, output)
        found = await self._files.begin_by_hub(key, job, attempt=running.assigned.attempt, stop=running.stop)
        if isinstance(found, OldResult):
            output.add(found.output.encode())
            code = "" if found.status == COMPLETED else "agent_error"
            return Ending(None, found.duration_ms, code, found.error if code else "")
        if running.stop.done() and not found:  # it was stopped while it waited for a file's result
            return Ending(None, 0, "stopped", running.stop.result())
        ending = Ending(None, 0, "stopped", "it did not begin")
        try:
            ending = await super()._run(running, output)
        finally:
            if found:
                await self._files.end_by_hub(key, ending, output, is_kept=not ending.code)
        return ending
