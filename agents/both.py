"""An agent that does the tasks of the hub and those of a folder at once; the folder's also while there is no hub."""

from __future__ import annotations

import asyncio
import logging
import signal

import click

from orchestra import aio
from orchestra.cli import stdin
from orchestra.enrol import enrol_here
from orchestra.errors import HubUnreachable, KeyFault
from orchestra.limits import BACKOFF_S_MAX

from .filework import FileWork
from .settings import AgentSettings
from .sharing import SharingWorker
from .slots import Slots

logger = logging.getLogger(__name__)


async def work(settings: AgentSettings, stop_with_stdin: bool) -> None:
    """Work until SIGTERM or Ctrl-C.

    Raises:
        OrchestraError: if the folder can't be served, or the hub ended the conversation for good.
    """
    assert settings.files is not None
    slots = Slots(settings.concurrency)
    files = FileWork(settings, settings.files, slots)
    by_file = asyncio.ensure_future(files.run())
    by_hub = asyncio.ensure_future(_reach(settings))
    worker: SharingWorker | None = None

    def stop() -> None:
        files.drain()
        if worker is not None:
            worker.drain()
        else:
            by_hub.cancel()

    by_file.add_done_callback(lambda done: stop())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if stop_with_stdin:
        stdin.on_close(stop)
    click.echo(f"agent ready: {settings.files.inbox}")
    try:
        await asyncio.wait({by_file, by_hub}, return_when=asyncio.FIRST_COMPLETED)
        if by_file.done() or by_hub.cancelled():
            return
        async with by_hub.result() as client:
            worker = SharingWorker(settings, client, slots=slots, files=files)
            await worker.run(ready=lambda: click.echo(f"agent ready: {client.address}"))
    finally:
        by_hub.cancel()
        files.drain()
        await asyncio.gather(by_hub, return_exceptions=True)
        await by_file


async def _reach(settings: AgentSettings) -> aio.Client:
    """Connect as soon as there is a hub that lets this agent in; say once that there is none."""
    is_told = False
    while True:
        try:
            await enrol_here(settings.state, settings.address)
            return await aio.connect(
                state=settings.state.path,
                address=str(settings.address),
                queues=settings.queues,
                about={"runner": str(settings.runner)},
            )
        except (HubUnreachable, KeyFault) as error:
            if not is_told:
                logger.warning("%s; until then only files are served", error, extra={"action": "hub_awaited"})
            is_told = True
        await asyncio.sleep(BACKOFF_S_MAX)
