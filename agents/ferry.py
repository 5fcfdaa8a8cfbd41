"""`orchestra bridge files`: the process around a bridge."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import click

from orchestra import aio
from orchestra.address import Address
from orchestra.cli import stdin
from orchestra.conversation import Welcomed
from orchestra.enrol import enrol_here
from orchestra.errors import HubUnreachable, OrchestraError, StateFault
from orchestra.keys import load_key
from orchestra.state import StateFolder, this_operator

from .agentmap import parse_map
from .bridge import Bridge
from .claims import Claims, claims_of
from .lock import hold_inbox
from .oldagent import Lookout, OldAgent
from .parting import parting_word, remind
from .place import check_root, trust_in
from .settings import AgentSettings, BridgeSettings

logger = logging.getLogger(__name__)


def run(
    *,
    state: StateFolder,
    address: Address,
    inbox: Path,
    outbox: Path,
    agent_map: str,
    serve: Sequence[str],
    owner: str | None,
    until: date | None,
    stop_with_stdin: bool,
) -> None:
    """Bridge until SIGTERM or Ctrl-C. The arguments are those of the command line.

    Raises:
        OrchestraError: if it can't begin, or the hub ended the conversation for good.
    """
    if until is not None:
        parting_word(until, date.today())
    trust, root = trust_in(owner, "--owner"), _folder(inbox, "--inbox")
    check_root(root, trust)
    settings = BridgeSettings(
        address=address,
        state=state,
        inbox=root,
        outbox=_folder(outbox, "--outbox"),
        agents=parse_map(agent_map, serve),
        trust=trust,
        until=until,
    )
    asyncio.run(_run(settings, stop_with_stdin))


async def _run(settings: BridgeSettings, stop_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    stops: dict[str, Callable[[], object]] = {}

    def stop() -> None:
        for each in list(stops.values()):
            each()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if stop_with_stdin:
        stdin.on_close(stop)
    with ExitStack() as stack:
        stack.callback(hold_inbox(settings.inbox).close)
        claims = Claims(claims_of(settings.inbox))
        stack.callback(claims.close)
        lookout = Lookout(settings.outbox)
        served = {
            name: asyncio.ensure_future(_serve(settings, claims, lookout, name, stops))
            for name in settings.agents.served
        }
        running = [*served.values(), asyncio.ensure_future(remind(settings.until))]
        if settings.agents.addresses or not served:
            running.append(asyncio.ensure_future(_take(settings, claims)))
        stops |= {name: part.cancel for name, part in served.items()}  # until it serves: then it is drained
        stops[""] = lambda: [part.cancel() for part in running[len(served) :]]
        if served:
            await _all([*running, asyncio.ensure_future(_beside(lookout.run(), running))])
        else:
            await _all(running)
    logger.info("the bridge stops; what it took is answered when it runs again", extra={"action": "bridge_ends"})


async def _beside(doing: Coroutine[Any, Any, None], others: Sequence[asyncio.Task[None]]) -> None:
    """Do something until all others have ended: who drains still waits for results."""
    working = asyncio.ensure_future(doing)
    waiting = asyncio.ensure_future(asyncio.wait(others))
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


async def _all(parts: Sequence[asyncio.Task[None]]) -> None:
    """Wait until all have ended or were stopped; where one fails, stop the others and raise what it raised."""
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for each in parts:
            each.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
    for each in parts:
        if not each.cancelled():
            each.result()


async def _take(settings: BridgeSettings, claims: Claims) -> None:
    """Take in files; stopped by being cancelled."""
    async with await reach(settings.state, settings.address) as client:
        click.echo(f"bridge ready: {settings.inbox}")
        await Bridge(settings, client, claims).run()


async def _serve(
    settings: BridgeSettings, claims: Claims, lookout: Lookout, name: str, stops: dict[str, Callable[[], object]]
) -> None:
    """Let the old agent of the folder `name` do tasks of the hub; stopped by draining it."""
    address, queues = settings.agents.served[name]
    async with await reach(settings.state, address, queues=queues, about={"runner": "command"}) as client:
        chosen = AgentSettings(address, settings.state, queues=queues)
        old = OldAgent(chosen, client, bridge=settings, name=name, claims=claims, lookout=lookout)
        stops[name] = old.drain
        await old.run(ready=lambda: click.echo(f"bridge ready: {settings.inbox / name} for {address}"))


async def reach(state: StateFolder, address: Address, **session: Any) -> aio.Client:
    """Connect as `address`, which this user's operator lets in; wait for a hub that does not answer, and say so once.

    `session` is for `aio.connect`.

    Raises:
        OrchestraError: why that will never be: no hub was started here, the key is missing or refused.
    """
    state.read_card()
    patience_s: float | None = 0.0
    while True:
        try:
            if address == this_operator():
                key = load_key(state.key_of(address))
            else:
                key = await enrol_here(state, address, patience_s=patience_s)
            client = await aio.connect(
                state=state.path, address=str(address), key=key, patience_s=patience_s, **session
            )
            break
        except HubUnreachable as error:
            if patience_s is None:
                raise
            logger.warning("%s; waiting for it", error, extra={"action": "hub_awaited"})
            patience_s = None
    client.on_lost = _lost
    client.on_connected = _connected
    return client


def _lost(reason: OrchestraError) -> None:
    logger.warning("hub lost: %s; waiting for it", reason, extra={"action": "hub_lost"})


def _connected(welcomed: Welcomed) -> None:
    logger.info("%s is connected", welcomed.address, extra={"action": "connected"})


def _folder(path: Path, option: str) -> Path:
    found = path.resolve()
    if not found.is_dir():
        raise StateFault(f"{option} {path} is no folder; give the one that holds a folder for each agent")
    return found
