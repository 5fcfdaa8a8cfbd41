"""How well 20 good peers work while strangers hammer the hub's port, beside how well they do in quiet, in one run.

Ten matrices each give a task to an agent of their own, twenty times a second, and wait for its result: 20 peers over
TCP with CURVE. Meanwhile one process of strangers holds 1,000 connections whose handshake never goes on (each that the
hub closes is opened again a second later), and 200 more connect with a key the hub does not know, are refused, and come
again at once. Blocks of quiet and of attack alternate, so that a slow minute of the machine hits both. Strangers stand
for other machines, so they get what is left of the cores.

    python bench/strangers.py [--seconds N] [--blocks N] [--shares-cores] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import selectors
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import zmq
from rich.console import Console
from rich.table import Table
from rig import (
    DURABILITIES,
    Durability,
    Rig,
    RigFault,
    machine,
    machine_line,
    open_client,
    percentile,
    stand_apart,
    wide_console,
)
from zmq.utils.monitor import recv_monitor_message

from orchestra.aio import Client
from orchestra.keys import KeyPair, make_key_pair
from orchestra.state import HubCard
from orchestra.task import TaskState

PAIRS: Final = 10
PERIOD_S: Final = 0.05  # between the begins of two tasks of one matrix
HALF_OPEN: Final = 1000
STRANGERS: Final = 200
BLOCKS_DEFAULT: Final = 4
SECONDS_DEFAULT: Final = 8.0
SETTLE_S: Final = 1.5  # at the start of each block, not counted: until the attack is at its height, or over
FILES: Final = HALF_OPEN + 40 * STRANGERS
ROUND_S_MAX: Final = 10.0
REOPEN_S: Final = 1.0
_GREETING: Final = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)


@dataclass(slots=True)
class Found:
    """What was measured. Samples are seconds, block by block."""

    quiet: list[list[float]] = field(default_factory=list)
    hammered: list[list[float]] = field(default_factory=list)
    attacks: list[dict[str, float]] = field(default_factory=list)


def run_agents(pipe: Connection, card: HubCard, keys: dict[str, KeyPair]) -> None:
    """Role: ten agents that report each task as done at once."""
    asyncio.run(_serve(pipe, card, keys))


async def _serve(pipe: Connection, card: HubCard, keys: dict[str, KeyPair]) -> None:
    for address, key in keys.items():
        client = await open_client(card, address, key, slots=4)
        client.on_assigned = lambda task, client=client: client.report(task, TaskState.COMPLETED, {}, b"done")
    pipe.send("ready")
    await asyncio.Event().wait()


def run_strangers(pipe: Connection, host: str, port: int, hub_public_key: str, shares_cores: bool) -> None:
    """Role: attack when told "attack", until told "rest"; then tell how much it was."""
    if not shares_cores:
        stand_apart()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard) if hard != resource.RLIM_INFINITY else FILES, hard))
    pipe.send("ready")
    while True:
        assert pipe.recv() == "attack"
        pipe.send(_attack(pipe, host, port, hub_public_key))


def _attack(pipe: Connection, host: str, port: int, hub_public_key: str) -> dict[str, float]:
    half_open = HalfOpen(host, port)
    crowd = Crowd(f"tcp://{host}:{port}", hub_public_key)
    began = time.monotonic()
    while not pipe.poll(0):
        half_open.go_on()
        crowd.go_on()
    took_s = time.monotonic() - began
    assert pipe.recv() == "rest"
    half_open.close()
    crowd.close()
    return {"half_open_a_second": half_open.opened / took_s, "refused_a_second": crowd.refused / took_s}


class HalfOpen:
    """A thousand connections that say who they could be, and never go on."""

    def __init__(self, host: str, port: int) -> None:
        self.opened = 0
        self._target = host, port
        self._selector = selectors.DefaultSelector()
        self._due = deque([0.0] * HALF_OPEN)
        """When each connection that is missing is to be opened."""

    def go_on(self) -> None:
        """Open those that are due, some at a time, and notice which the hub closed."""
        for _ in range(50):
            if not self._due or self._due[0] > time.monotonic():
                break
            self._due.popleft()
            made = socket.socket()
            made.setblocking(False)
            with suppress(BlockingIOError):
                made.connect(self._target)
            self._selector.register(made, selectors.EVENT_READ)
            self.opened += 1
        for key, _ in self._selector.select(0):
            self._hear(key.fileobj)

    def _hear(self, each: Any) -> None:
        try:
            if each.recv(65_536):
                each.send(_GREETING)
                return
        except OSError:
            pass
        self._selector.unregister(each)
        each.close()
        self._due.append(time.monotonic() + REOPEN_S)

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr] - we registered sockets
        self._selector.close()


class Crowd:
    """Two hundred who connect with a key that nobody accepted, and again when they are refused."""

    def __init__(self, endpoint: str, hub_public_key: str) -> None:
        self.refused = 0
        self._endpoint, self._hub_public_key = endpoint, hub_public_key.encode()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 40 * STRANGERS)  # those that were closed count until they are collected
        self._keys = [make_key_pair() for _ in range(STRANGERS)]
        self._poller = zmq.Poller()
        self._sockets: dict[zmq.Socket[bytes], zmq.Socket[bytes]] = {}
        for key in self._keys:
            self._knock(key)

    def go_on(self) -> None:
        for monitor, _ in self._poller.poll(5):
            event = recv_monitor_message(monitor)["event"]
            if event in (zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
                assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED, "a stranger was let in"
                self.refused += 1
                self._leave(monitor)
                self._knock(random.choice(self._keys))

    def _knock(self, key: KeyPair) -> None:
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        made.set(zmq.RECONNECT_IVL, -1)
        made.set(zmq.CURVE_SERVERKEY, self._hub_public_key)
        made.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        made.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        monitor = made.get_monitor_socket()
        self._sockets[monitor] = made
        self._poller.register(monitor, zmq.POLLIN)
        made.connect(self._endpoint)

    def _leave(self, monitor: zmq.Socket[bytes]) -> None:
        self._poller.unregister(monitor)
        made = self._sockets.pop(monitor)
        made.disable_monitor()
        monitor.close(0)
        made.close(0)

    def close(self) -> None:
        for monitor in list(self._sockets):
            self._leave(monitor)
        self._context.term()


async def work(clients: dict[str, Client], seconds: float) -> list[float]:
    """Let each matrix give a task to its agent every PERIOD_S; return the seconds that each took."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds

    async def one(agent: str, client: Client) -> None:
        begin = time.perf_counter() + random.random() * PERIOD_S
        while begin < ends:
            await asyncio.sleep(begin - time.perf_counter())
            began = time.perf_counter()
            async with asyncio.timeout(ROUND_S_MAX):
                task = await client.submit(agent, prompt="x" * 200)
                assert (await task.result()).is_ok, "the agent completes every task"
            taken.append(time.perf_counter() - began)
            begin += PERIOD_S * max(1, -(-(time.perf_counter() - begin) // PERIOD_S))  # who is late skips a turn

    async with asyncio.TaskGroup() as group:
        for agent, client in clients.items():
            group.create_task(one(agent, client))
    return taken


async def measure(rig: Rig, durability: Durability, *, seconds: float, blocks: int, shares_cores: bool) -> Found:
    """Take alternating blocks of quiet and of attack."""
    found = Found()
    hub = rig.start_hub(durability)
    agents = [f"agent/good-{number}" for number in range(PAIRS)]
    keys = await hub.register(*agents, *(each.replace("agent/", "matrix/") for each in agents))
    card = hub.over("tcp")
    host, _, port = card.endpoints[0].removeprefix("tcp://").rpartition(":")
    served = rig.start("agents", run_agents, card, {each: keys[each] for each in agents})
    strangers = rig.start("strangers", run_strangers, host, int(port), card.public_key, shares_cores)
    served.hear()
    strangers.hear()
    clients = {
        each: await open_client(card, (mine := each.replace("agent/", "matrix/")), keys[mine]) for each in agents
    }
    await work(clients, SETTLE_S)
    for _ in range(blocks):
        await work(clients, SETTLE_S)
        found.quiet.append(await work(clients, seconds))
        strangers.pipe.send("attack")
        await work(clients, SETTLE_S)
        found.hammered.append(await work(clients, seconds))
        if strangers.pipe.poll():
            strangers.hear()  # it failed, and says why
        strangers.pipe.send("rest")
        found.attacks.append(await asyncio.to_thread(strangers.hear))
    for client in clients.values():
        await client.close()
    rig.stop(served, strangers)
    rig.stop_hub(hub)
    return found


def figures_of(found: Found, durability: Durability) -> dict[str, Any]:
    """Return everything that was measured, for a file."""
    blocks = zip(found.quiet, found.hammered, strict=True)
    quiet, hammered = _facts(found.quiet), _facts(found.hammered)
    return {
        "machine": machine(),
        "durability": durability,
        "quiet": quiet,
        "hammered": hammered,
        "ratio_p50": hammered["p50_us"] / quiet["p50_us"],
        "ratio_p99": hammered["p99_us"] / quiet["p99_us"],
        "ratio_p99_of_blocks": sorted(_facts([b])["p99_us"] / _facts([a])["p99_us"] for a, b in blocks),
        "attack": {name: sum(each[name] for each in found.attacks) / len(found.attacks) for name in found.attacks[0]},
    }


def _facts(blocks: list[list[float]]) -> dict[str, float]:
    ordered = sorted(each for block in blocks for each in block)
    found = {f"p{percent}_us": percentile(ordered, percent) * 1e6 for percent in (50, 90, 99)}
    return {**found, "max_us": ordered[-1] * 1e6, "tasks": len(ordered)}


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Tasks of 20 good peers, µs, {figures['durability']} over tcp ({machine_line()})")
    table.add_column("", no_wrap=True)
    for name in ("tasks", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("quiet", "hammered"):
        row = figures[name]
        table.add_row(name, *(f"{row[each]:,.0f}" for each in ("tasks", "p50_us", "p90_us", "p99_us", "max_us")))
    console.print(table)
    blocks = figures["ratio_p99_of_blocks"]
    console.print(
        f"hammered ÷ quiet: p50 {figures['ratio_p50']:.2f}, p99 {figures['ratio_p99']:.2f} "
        f"(block by block {blocks[0]:.2f}–{blocks[-1]:.2f})"
    )
    attack = figures["attack"]
    console.print(
        f"the attack: {HALF_OPEN} half-open connections, {attack['half_open_a_second']:,.0f} opened a second; "
        f"{STRANGERS} strangers, {attack['refused_a_second']:,.0f} refused a second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure 20 good peers in quiet and while strangers hammer the hub.")
    parser.add_argument("--seconds", type=float, default=SECONDS_DEFAULT, help="of each block (%(default)s)")
    parser.add_argument("--blocks", type=int, default=BLOCKS_DEFAULT, help="of quiet, and of attack (%(default)s)")
    parser.add_argument("--durability", choices=DURABILITIES, default="full", help="(%(default)s)")
    parser.add_argument(
        "--shares-cores", action="store_true", help="let the strangers take the cores as any program of this machine"
    )
    parser.add_argument("--folder", type=Path, help="where the database is put (the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="keep all figures in this file")
    options = parser.parse_args()
    with Rig(folder=options.folder) as rig:
        found = asyncio.run(
            measure(
                rig,
                options.durability,
                seconds=options.seconds,
                blocks=options.blocks,
                shares_cores=options.shares_cores,
            )
        )
    figures = figures_of(found, options.durability)
    show(figures, wide_console())
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except RigFault as fault:
        sys.exit(f"error: {fault}")
    except KeyboardInterrupt:
        sys.exit(130)
