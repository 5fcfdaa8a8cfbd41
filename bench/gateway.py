"""What the gateway adds: the push to a WebSocket beside the push to a peer with a key, and what busy browsers cost.

*Push*: one sender with a key sends messages of 256 bytes, one at a time, to a peer with a key and to a WebSocket, in
alternating blocks of the same run. The time runs from before `send` until the recipient's program has the message;
both are processes of their own on this machine, and read one clock.

*Busy browsers*: tasks go there and back between peers with keys, as in latency.py, in blocks that alternate between
quiet (the browsers are connected and ask for nothing) and busy (each watches everything that happens, as the live page
does, pings every second, and sends a message to another one every two seconds). They stand for other machines, so they
get what is left of the cores.

    python bench/gateway.py [--rounds N] [--browsers N] [--shares-cores] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from latency import rounds_of, run_agent
from rich.table import Table
from rig import (
    BODY_BYTES,
    Child,
    Rig,
    RunningHub,
    machine,
    machine_line,
    open_client,
    percentile,
    stand_apart,
    wide_console,
)
from websockets.asyncio.client import ClientConnection, connect

from orchestra.aio import Client
from orchestra.keys import KeyPair
from orchestra.state import HubCard

ROUNDS_DEFAULT: Final = 2000
ROUNDS_QUICK: Final = 60
BLOCKS: Final = 8
WARM_UP: Final = 200
BROWSERS: Final = 200
PEERS: Final = 8  # whose the browsers are: one peer may have 64 sessions
_SAY_S: Final = 2.0
_PING_S: Final = 1.0
_CONFIRM_EVERY: Final = 4  # of the feed's events: as the page does
_SETTLE_S: Final = 1.0
_WAIT_S: Final = 30.0
_MODERN: Final = "orchestra.v1"
_SENDER: Final = "matrix/bench"
_KEYED: Final = "matrix/keyed"
_WEB: Final = "matrix/web"
_AGENT: Final = "agent/bench"


def run_keyed(pipe: Connection, card: HubCard, key: KeyPair) -> None:
    """Role: a peer with a key that tells when each message came."""
    asyncio.run(_keyed(pipe, card, key))


async def _keyed(pipe: Connection, card: HubCard, key: KeyPair) -> None:
    async with await open_client(card, _KEYED, key) as client:
        pipe.send("ready")
        async for _ in client.messages():
            pipe.send(time.perf_counter())


def run_web(pipe: Connection, url: str, token: str) -> None:
    """Role: a WebSocket that tells when each message came."""
    asyncio.run(_web(pipe, url, token))


async def _web(pipe: Connection, url: str, token: str) -> None:
    async with _socket(url, token) as socket:
        await socket.recv()  # welcome
        pipe.send("ready")
        async for text in socket:
            came = time.perf_counter()
            if json.loads(text)["type"] == "message":
                pipe.send(came)


def run_browsers(pipe: Connection, url: str, tokens: list[str], count: int, shares_cores: bool) -> None:
    """Role: browsers that are quiet or busy, as the measurement says."""
    if not shares_cores:
        stand_apart()
    asyncio.run(_browsers(pipe, url, tokens, count))


async def _browsers(pipe: Connection, url: str, tokens: list[str], count: int) -> None:
    is_busy = asyncio.Event()
    heard = [0]
    sockets = [await _socket(url, tokens[number % len(tokens)], "?credit=0") for number in range(count)]
    async with asyncio.TaskGroup() as group:
        for number, socket in enumerate(sockets):
            group.create_task(_hear(socket, heard))
            group.create_task(_live(socket, is_busy, f"operator/browser-{(number + 1) % len(tokens)}", number / count))
        pipe.send("ready")
        loop = asyncio.get_running_loop()
        while True:
            wish = await loop.run_in_executor(None, pipe.recv)
            method = "feed.watch" if wish == "busy" else "feed.unwatch"
            (is_busy.set if wish == "busy" else is_busy.clear)()
            for socket in sockets:
                await socket.send(json.dumps({"type": "call", "id": 1, "method": method, "params": {}}))
            pipe.send(heard[0])


async def _hear(socket: ClientConnection, heard: list[int]) -> None:
    async for text in socket:
        heard[0] += 1
        message = json.loads(text)
        if message.get("event") == "feed" and not message["n"] % _CONFIRM_EVERY:
            seen = {"type": "call", "id": 2, "method": "feed.seen", "params": {"n": message["n"]}}
            await socket.send(json.dumps(seen))


async def _live(socket: ClientConnection, is_busy: asyncio.Event, to: str, phase: float) -> None:
    while True:
        await is_busy.wait()
        await asyncio.sleep(_PING_S * phase)
        while is_busy.is_set():
            await socket.send('{"type":"ping"}')
            await asyncio.sleep(_PING_S)
            await socket.send(json.dumps({"type": "send", "id": 3, "to": to, "content": "x" * BODY_BYTES}))
            await asyncio.sleep(_SAY_S - _PING_S)


def _socket(url: str, token: str, query: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    return connect(f"{url.replace('http', 'ws', 1)}/{query}", subprotocols=[_MODERN], additional_headers=headers)


async def pushes(client: Client, to: str, recipient: Child, count: int) -> list[float]:
    """Return the seconds of `count` pushes, one after the other."""
    taken = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        began = time.perf_counter()
        await client.send(to, b"x" * BODY_BYTES)
        taken.append(await loop.run_in_executor(None, recipient.hear) - began)
    return taken


async def measure(
    rig: Rig, hub: RunningHub, *, rounds: int, browsers: int, shares_cores: bool
) -> dict[str, list[float]]:
    """Return the samples of each figure, in seconds."""
    names = [f"operator/browser-{number}" for number in range(PEERS)]
    keys = await hub.register(_SENDER, _KEYED, _WEB, _AGENT, *names)
    card = hub.over("tcp")
    tokens = {}
    for name in (_WEB, *names):
        async with await open_client(card, name, keys[name]) as client:
            tokens[name] = (await client.call("token.create", ttl_ms=3_600_000))["token"]
            url = (await client.call("status"))["gateway"]
    found: dict[str, list[float]] = {"keyed": [], "web": [], "quiet": [], "busy": []}
    keyed = rig.start("keyed", run_keyed, card, keys[_KEYED])
    web = rig.start("web", run_web, url, tokens[_WEB])
    agent = rig.start("agent", run_agent, card, keys[_AGENT])
    for each in (keyed, web, agent):
        each.hear()
    block = -(-rounds // BLOCKS)
    async with await open_client(card, _SENDER, keys[_SENDER]) as client:
        for each, to in ((keyed, _KEYED), (web, _WEB)):
            await pushes(client, to, each, min(rounds, WARM_UP))
        for _ in range(BLOCKS):
            found["keyed"] += await pushes(client, _KEYED, keyed, block)
            found["web"] += await pushes(client, _WEB, web, block)
        crowd = rig.start("browsers", run_browsers, url, [tokens[name] for name in names], browsers, shares_cores)
        crowd.hear()
        await rounds_of(client, min(rounds, WARM_UP))
        heard = 0
        for _ in range(BLOCKS):
            for wish in ("quiet", "busy"):
                crowd.pipe.send(wish)
                before = crowd.hear(within_s=_WAIT_S)
                heard += before - heard if wish == "quiet" else 0
                await asyncio.sleep(_SETTLE_S)  # the calls with which they begin and end
                await rounds_of(client, min(block, WARM_UP // 4))
                found[wish] += await rounds_of(client, block)
        crowd.pipe.send("quiet")
        print(f"{browsers} browsers heard {crowd.hear(within_s=_WAIT_S)} messages", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT, help="of each figure (%(default)s)")
    parser.add_argument("--browsers", type=int, default=BROWSERS, help="that are connected (%(default)s)")
    parser.add_argument(
        "--shares-cores", action="store_true", help="let the browsers take the cores as any program of this machine"
    )
    parser.add_argument("--quick", action="store_true", help="seconds: does it still work? No figures to quote")
    parser.add_argument("--json", type=Path, help="where all samples go")
    parser.add_argument("--folder", type=Path, help="where the database is put")
    parser.add_argument("--profile", type=Path, help="a folder for a cProfile of each process; distorts the times")
    chosen = parser.parse_args()
    rounds = ROUNDS_QUICK if chosen.quick else chosen.rounds
    with Rig(folder=chosen.folder, profiles=chosen.profile) as rig:
        hub = rig.start_hub("full", has_gateway=True)
        found = asyncio.run(
            measure(rig, hub, rounds=rounds, browsers=chosen.browsers, shares_cores=chosen.shares_cores)
        )
    table = Table("", "p50 µs", "p99 µs", "max µs", "p50 ÷", "p99 ÷", title=machine_line())
    for name, title, other in (
        ("keyed", "push to a peer with a key", ""),
        ("web", "push to a WebSocket", "keyed"),
        ("quiet", f"task round trip, {chosen.browsers} quiet browsers", ""),
        ("busy", f"task round trip, {chosen.browsers} busy browsers", "quiet"),
    ):
        figures = [percentile(sorted(found[name]), percent) * 1e6 for percent in (50, 99, 100)]
        beside = [percentile(sorted(found[other]), percent) * 1e6 for percent in (50, 99)] if other else []
        ratios = [f"{mine / theirs:.2f}" for mine, theirs in zip(figures, beside, strict=False)] or ["", ""]
        table.add_row(title, *(f"{each:,.0f}" for each in figures), *ratios)
    wide_console().print(table)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": machine(), "samples_s": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
