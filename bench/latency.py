"""How long a task takes there and back: ours, the floor, the old way, and the way over, in one run.

Ours: `submit` → stored by the hub → delivered to an agent process → `report` → stored → `task.result()`, always with
CURVE. floor.py tells of the floor, polling.py of the old way, bridged.py of the bridge between both. Blocks of ours and
of the floor alternate, so that a slow minute of the machine hits both; the ratio is what counts.

    python bench/latency.py [--rounds N] [--quick] [--json FILE] [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from bridged import Bridged
from floor import Floor
from plot import draw
from polling import PERIOD_S, Polling
from rich.console import Console
from rich.table import Table
from rig import (
    BODY_BYTES,
    DURABILITIES,
    TRANSPORTS,
    Durability,
    Rig,
    RigFault,
    Transport,
    machine,
    machine_line,
    open_client,
    percentile,
    wide_console,
)

from orchestra.aio import Client
from orchestra.job import Job
from orchestra.keys import KeyPair
from orchestra.state import HubCard
from orchestra.task import TaskState

ROUNDS_DEFAULT: Final = 2000
ROUNDS_QUICK: Final = 120
BLOCK_ROUNDS_MAX: Final = 250  # short blocks: the machine changes its speed within seconds
BLOCKS_MIN: Final = 3
WARM_UP_ROUNDS: Final = 1500
SETTLE_ROUNDS: Final = 5  # at the start of each block, not counted: the other side's processes had the caches
POLLING_ROUNDS: Final = 5
BRIDGED_ROUNDS: Final = 200
BRIDGED_ROUNDS_QUICK: Final = 10
BLOCK_S_MAX: Final = 120.0

_SUBMITTER: Final = "matrix/bench"
_AGENT: Final = "agent/bench"
_QUEUE: Final = "queue/bench"
_PROMPT: Final = "x" * (BODY_BYTES - len(Job(prompt="x" * 200).encode()) + 200)
assert len(Job(prompt=_PROMPT).encode()) == BODY_BYTES
_OUTPUT: Final = b"x" * BODY_BYTES


@dataclass(slots=True)
class Cell:
    """One durability over one transport. Samples are seconds, in the order they were taken, block by block."""

    durability: Durability
    transport: Transport
    ours: list[list[float]] = field(default_factory=list)
    floor: list[list[float]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Our p50 over the floor's, all blocks pooled."""
        return summary(pooled(self.ours))["p50_us"] / summary(pooled(self.floor))["p50_us"]

    @property
    def block_ratios(self) -> list[float]:
        """The same ratio for each pair of neighbouring blocks, in ascending order: how sure the figure is."""
        pairs = zip(self.ours, self.floor, strict=True)
        return sorted(percentile(sorted(ours), 50) / percentile(sorted(floor), 50) for ours, floor in pairs)


def run_agent(pipe: Connection, card: HubCard, key: KeyPair) -> None:
    """Role: an agent that reports each task as done at once."""
    asyncio.run(_serve(pipe, card, key))


async def _serve(pipe: Connection, card: HubCard, key: KeyPair) -> None:
    async with await open_client(card, _AGENT, key, slots=1, queues=[_QUEUE]) as client:
        client.on_assigned = lambda task: client.report(task, TaskState.COMPLETED, {"exit_code": 0}, _OUTPUT)
        pipe.send("ready")
        await client.wait_over()


async def rounds_of(client: Client, count: int) -> list[float]:
    """Return the seconds of `count` round trips, one after the other."""
    clock = time.perf_counter
    taken: list[float] = []
    async with asyncio.timeout(BLOCK_S_MAX):
        for _ in range(count):
            began = clock()
            task = await client.submit(_QUEUE, prompt=_PROMPT)
            result = await task.result()
            taken.append(clock() - began)
            assert result.is_ok, "the agent completes every task"
    return taken


async def measure(rig: Rig, cell: Cell, *, rounds: int) -> None:
    """Fill `cell` with alternating blocks of ours and of the floor."""
    hub = rig.start_hub(cell.durability)
    keys = await hub.register(_SUBMITTER, _AGENT)
    card = hub.over(cell.transport)
    agent = rig.start(f"agent-{cell.durability}-{cell.transport}", run_agent, card, keys[_AGENT])
    floor = Floor(rig, durability=cell.durability, transport=cell.transport)
    agent.hear()
    blocks = max(BLOCKS_MIN, -(-rounds // BLOCK_ROUNDS_MAX))
    count = -(-rounds // blocks)
    async with await open_client(card, _SUBMITTER, keys[_SUBMITTER]) as client:
        await rounds_of(client, min(rounds, WARM_UP_ROUNDS))
        floor.rounds(min(rounds, WARM_UP_ROUNDS))
        for _ in range(blocks):
            await rounds_of(client, SETTLE_ROUNDS)
            cell.ours.append(await rounds_of(client, count))
            floor.rounds(SETTLE_ROUNDS)
            cell.floor.append(floor.rounds(count))  # blocks the loop, for less than a lease: nothing else is to run
    floor.close()
    rig.stop(agent)
    rig.stop_hub(hub)


def measure_polling(rig: Rig, *, rounds: int) -> list[float]:
    polling = Polling(rig)
    taken = polling.rounds(rounds)
    polling.close()
    return taken


def measure_bridged(rig: Rig, *, durability: Durability, rounds: int) -> list[float]:
    bridged = Bridged(rig, durability=durability)
    taken = bridged.rounds(SETTLE_ROUNDS + rounds)
    bridged.close()
    return taken[SETTLE_ROUNDS:]


def pooled(blocks: Sequence[Sequence[float]]) -> list[float]:
    return [each for block in blocks for each in block]


def summary(taken: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of samples in seconds, as microseconds."""
    ordered = sorted(taken)
    found = {f"p{percent}_us": percentile(ordered, percent) * 1e6 for percent in (50, 90, 99)}
    return found | {"max_us": ordered[-1] * 1e6}


def figures_of(cells: Sequence[Cell], bridged: Sequence[float], polling: Sequence[float]) -> dict[str, Any]:
    """Return everything that was measured, for a file."""
    return {
        "machine": machine(),
        "body_bytes": BODY_BYTES,
        "cells": [
            {
                "durability": cell.durability,
                "transport": cell.transport,
                "ratio_p50": cell.ratio,
                "ratio_p50_of_blocks": cell.block_ratios,
                "ours": _facts(pooled(cell.ours)),
                "floor": _facts(pooled(cell.floor)),
            }
            for cell in cells
        ],
        "bridged": {"durability": cells[0].durability, **_facts(bridged)},
        "polling": {"period_s": PERIOD_S, **_facts(polling)} if polling else None,
    }


def _facts(taken: Sequence[float]) -> dict[str, Any]:
    return {**summary(taken), "rounds": len(taken), "samples_us": [round(each * 1e6, 1) for each in taken]}


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table(title=f"Task round trip, µs, {BODY_BYTES}-byte bodies, CURVE ({machine_line()})")
    for name in ("durability", "transport", "what"):
        table.add_column(name, no_wrap=True)
    for name in ("rounds", "p50", "p90", "p99", "max", "p50 ÷ floor", "block by block"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in figures["cells"]:
        spread = cell["ratio_p50_of_blocks"]
        ratio = f"{cell['ratio_p50']:.2f}"
        table.add_row(
            cell["durability"],
            cell["transport"],
            "ours",
            *_row(cell["ours"]),
            ratio,
            f"{spread[0]:.2f}–{spread[-1]:.2f}",
        )
        table.add_row("", "", "floor", *_row(cell["floor"]), end_section=True)
    polling, bridged = figures["polling"], figures["bridged"]
    table.add_row(bridged["durability"], "", "files, bridged", *_row(bridged))
    if polling is not None:
        table.add_row("", "", "JSON files", *_row(polling))
    console.print(table)
    if polling is None:
        console.print("The old way (files polled every second) was skipped: its rounds take a second each.")
        return
    console.print(f"JSON files: both sides look every {1000 * PERIOD_S:.0f} ms.")
    console.print(f"files, bridged: the old way takes {polling['p50_us'] / bridged['p50_us']:,.0f} × as long (p50)")
    for cell in figures["cells"]:
        gain = polling["p50_us"] / cell["ours"]["p50_us"]
        console.print(f"{cell['durability']} over {cell['transport']}: the old way takes {gain:,.0f} × as long (p50)")


def _row(facts: dict[str, Any]) -> list[str]:
    return [str(facts["rounds"]), *(f"{facts[name]:,.0f}" for name in ("p50_us", "p90_us", "p99_us", "max_us"))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the task round trip: ours, the floor, and the old way.")
    parser.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT, help="round trips per cell (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works; no figures to quote")
    parser.add_argument("--durability", choices=DURABILITIES, action="append", help="only this one (both)")
    parser.add_argument("--transport", choices=TRANSPORTS, action="append", help="only this one (both)")
    parser.add_argument("--folder", type=Path, help="where the databases are put (the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="keep all samples in this file")
    parser.add_argument("--plot", type=Path, help="draw the distributions into this SVG file")
    parser.add_argument("--profile", type=Path, help="let each process leave a cProfile in this folder; distorts times")
    options = parser.parse_args()
    rounds = min(options.rounds, ROUNDS_QUICK) if options.quick else options.rounds
    if rounds < BLOCKS_MIN:
        parser.error(f"--rounds must be at least {BLOCKS_MIN}")
    cells = [
        Cell(durability, transport)
        for durability in options.durability or DURABILITIES
        for transport in options.transport or TRANSPORTS
    ]
    with Rig(folder=options.folder, profiles=options.profile) as rig:
        for cell in cells:
            asyncio.run(measure(rig, cell, rounds=rounds))
        bridged_rounds = BRIDGED_ROUNDS_QUICK if options.quick else BRIDGED_ROUNDS
        bridged = measure_bridged(rig, durability=cells[0].durability, rounds=bridged_rounds)
        polling = [] if options.quick else measure_polling(rig, rounds=POLLING_ROUNDS)
    figures = figures_of(cells, bridged, polling)
    show(figures, wide_console())
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if options.plot:
        options.plot.write_text(draw(figures), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except RigFault as fault:
        sys.exit(f"error: {fault}")
    except KeyboardInterrupt:
        sys.exit(130)
