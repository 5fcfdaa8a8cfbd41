"""How many durable messages a second one hub takes from one process and hands to another.

One sender process → hub process → one receiver process, CURVE, 256-byte bodies, batches as the client makes them. The
time runs from the first send until the hub has told the sender that every message is stored, the receiver has checked
that each came once and in order, and the hub has answered a call that the receiver made after its last acknowledgement.

    python bench/throughput.py [--messages N] [--repeat N] [--stored N] [--transport tcp|ipc] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Final

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
    median,
    open_client,
    wide_console,
)

from orchestra.aio import Client
from orchestra.conversation import Message
from orchestra.keys import KeyPair
from orchestra.limits import MAILBOX_MESSAGES_MAX
from orchestra.state import HubCard

MESSAGES_DEFAULT: Final = 200_000
MESSAGES_QUICK: Final = 10_000
REPEAT_DEFAULT: Final = 3
WARM_UP_MESSAGES: Final = 5000  # through the same connections, not counted
CREDIT: Final = 1024
_CHUNK: Final = 20_000  # one `send_all`
_LEAD_MAX: Final = 40_000  # the hub refuses a message when 100,000 wait for one recipient, so the sender keeps below
assert _LEAD_MAX + _CHUNK < MAILBOX_MESSAGES_MAX
_LOOK_S: Final = 0.001  # how often a sender that is too far ahead looks again
_RUN_S_MAX: Final = 600.0

_SENDER: Final = "matrix/bench"
_RECEIVER: Final = "agent/bench"
_NUMBER: Final = struct.Struct(">Q")
_PADDING: Final = b"x" * (BODY_BYTES - _NUMBER.size)


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition. CPU is of the whole process, with libzmq's thread; `stored` is how much was in the log before."""

    durability: Durability
    transport: Transport
    stored: int
    messages: int
    seconds: float
    hub_cpu_s: float
    sender_cpu_s: float
    receiver_cpu_s: float

    @property
    def a_second(self) -> float:
        return self.messages / self.seconds

    def us_each(self, cpu_s: float) -> float:
        return 1e6 * cpu_s / self.messages


def run_sender(
    pipe: Connection, card: HubCard, key: KeyPair, taken: Synchronized[int], warm_up: int, count: int
) -> None:
    """Role: send `warm_up` and then `count` numbered messages. It says when it begins, and when all are stored."""
    asyncio.run(_send(pipe, card, key, taken, warm_up, count))


async def _send(
    pipe: Connection, card: HubCard, key: KeyPair, taken: Synchronized[int], warm_up: int, count: int
) -> None:
    async with await open_client(card, _SENDER, key) as client:
        await _send_range(client, taken, 0, warm_up)
        pipe.send("begins")
        cpu_s, began = time.process_time(), time.monotonic()
        await _send_range(client, taken, warm_up, warm_up + count)
        pipe.send((began, time.monotonic(), time.process_time() - cpu_s))


async def _send_range(client: Client, taken: Synchronized[int], start: int, end: int) -> None:
    """Send the messages `start` to `end`; return when the hub has them all on disk."""
    for first in range(start, end, _CHUNK):
        last = min(first + _CHUNK, end)
        while first - taken.value > _LEAD_MAX:  # noqa: ASYNC110 - another process counts, no event can tell
            await asyncio.sleep(_LOOK_S)
        seqs = await client.send_all(_RECEIVER, _bodies(first, last))
        assert len(set(seqs)) == last - first, "each message has a number of its own"


def _bodies(start: int, end: int) -> Iterator[bytes]:
    for number in range(start, end):
        yield _NUMBER.pack(number) + _PADDING


def run_receiver(pipe: Connection, card: HubCard, key: KeyPair, taken: Synchronized[int], count: int) -> None:
    """Role: take `count` messages and check them. It says when it is ready, and when all are acknowledged."""
    asyncio.run(_receive(pipe, card, key, taken, count))


async def _receive(pipe: Connection, card: HubCard, key: KeyPair, taken: Synchronized[int], count: int) -> None:
    async with await open_client(card, _RECEIVER, key) as client:
        batches = client.batches(credit=CREDIT)
        pipe.send("ready")
        cpu_s = time.process_time()
        await _take(batches, taken, count)
        # Asking for more is what acknowledges the last batch. Records keep their order, so the hub's answer to a call
        # made after it says that the acknowledgements were taken, and its status that nothing is owed any more.
        more = asyncio.ensure_future(_next(batches))
        await asyncio.sleep(0)
        status = await client.call("status")
        ended, cpu_s = time.monotonic(), time.process_time() - cpu_s
        more.cancel()
        assert _RECEIVER not in status["mailboxes"], f"the hub still owes {status['mailboxes'][_RECEIVER]} messages"
        pipe.send((ended, cpu_s))


async def _next(batches: AsyncIterator[list[Message]]) -> list[Message]:
    return await anext(batches)


async def _take(batches: AsyncIterator[list[Message]], taken: Synchronized[int], count: int) -> None:
    """Check that messages 0 to `count` come once each and in order."""
    expected = 0
    while expected < count:
        for message in await anext(batches):
            (number,) = _NUMBER.unpack_from(message.body)
            assert number == expected, f"message {number} came where {expected} was due"
            assert len(message.body) == BODY_BYTES
            expected += 1
        taken.value = expected
    assert expected == count, f"{expected} messages came where {count} were sent"


class Bed:
    """A hub with the keys of its two peers, and how many messages its log holds."""

    def __init__(self, rig: Rig, durability: Durability) -> None:
        self._rig = rig
        self.durability = durability
        self.stored = 0
        self.hub = rig.start_hub(durability)
        self._keys = asyncio.run(self.hub.register(_SENDER, _RECEIVER))

    def store(self, count: int) -> None:
        """Let `count` messages pass through, so that the log holds them."""
        self._pass(TRANSPORTS[-1], count, 0)

    def run(self, transport: Transport, messages: int) -> Run:
        """Measure `messages` after a warm-up."""
        stored = self.stored
        seconds, hub_cpu_s, sender_cpu_s, receiver_cpu_s = self._pass(transport, WARM_UP_MESSAGES, messages)
        return Run(self.durability, transport, stored, messages, seconds, hub_cpu_s, sender_cpu_s, receiver_cpu_s)

    def close(self) -> None:
        self._rig.stop_hub(self.hub)

    def _pass(self, transport: Transport, warm_up: int, count: int) -> tuple[float, float, float, float]:
        """Return the seconds that `count` messages took, and the CPU seconds of hub, sender and receiver for them."""
        card = self.hub.over(transport)
        taken = self._rig.make_counter()
        receiver = self._rig.start("receiver", run_receiver, card, self._keys[_RECEIVER], taken, warm_up + count)
        receiver.hear()
        sender = self._rig.start("sender", run_sender, card, self._keys[_SENDER], taken, warm_up, count)
        said = sender.hear(within_s=_RUN_S_MAX)
        assert said == "begins"
        cpu_s = self.hub.child.cpu_s()
        began, sent, sender_cpu_s = sender.hear(within_s=_RUN_S_MAX)
        received, receiver_cpu_s = receiver.hear(within_s=_RUN_S_MAX)
        cpu_s = self.hub.child.cpu_s() - cpu_s
        self._rig.stop(sender, receiver)
        self.stored += warm_up + count
        return max(sent, received) - began, cpu_s, sender_cpu_s, receiver_cpu_s * count / max(1, warm_up + count)


def measure(
    rig: Rig,
    *,
    durabilities: Sequence[Durability],
    transports: Sequence[Transport],
    messages: int,
    repeat: int,
    stored: int,
) -> list[Run]:
    """Take turns: each repetition visits every cell, so that a slow minute of the machine hits all of them.

    A run begins with an empty log; with `stored`, each is followed by one on a hub whose log holds so many at least.
    """
    full_beds: dict[Durability, Bed] = {}
    if stored:
        for durability in durabilities:
            full_beds[durability] = Bed(rig, durability)
            full_beds[durability].store(stored)
    runs: list[Run] = []
    for _ in range(repeat):
        for durability in durabilities:
            for transport in transports:
                bed = Bed(rig, durability)
                runs.append(bed.run(transport, messages))
                bed.close()
                if stored:
                    runs.append(full_beds[durability].run(transport, messages))
    for bed in full_beds.values():
        bed.close()
    return runs


def cells_of(runs: Sequence[Run], stored: int) -> list[dict[str, Any]]:
    """Return the medians of each cell's repetitions."""
    found: dict[tuple[Durability, Transport, int], list[Run]] = {}
    for run in runs:
        found.setdefault((run.durability, run.transport, stored if run.stored >= stored else 0), []).append(run)
    return [
        {
            "durability": durability,
            "transport": transport,
            "stored_before": before,
            "a_second": median([run.a_second for run in cell]),
            "a_second_lowest": min(run.a_second for run in cell),
            "a_second_highest": max(run.a_second for run in cell),
            "hub_cpu_us": median([run.us_each(run.hub_cpu_s) for run in cell]),
            "sender_cpu_us": median([run.us_each(run.sender_cpu_s) for run in cell]),
            "receiver_cpu_us": median([run.us_each(run.receiver_cpu_s) for run in cell]),
        }
        for (durability, transport, before), cell in found.items()
    ]


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the table."""
    repeat = figures["repeat"]
    table = Table(
        title=f"Durable messages a second: {figures['messages']:,} of {BODY_BYTES} bytes, CURVE, median of {repeat} "
        f"({machine_line()})"
    )
    for name in ("durability", "transport"):
        table.add_column(name, no_wrap=True)
    for name in ("stored before", "a second", "lowest–highest", "hub CPU", "sender CPU", "receiver CPU, µs each"):
        table.add_column(name, justify="right")
    for cell in figures["cells"]:
        table.add_row(
            cell["durability"],
            cell["transport"],
            f"{cell['stored_before']:,}",
            f"{cell['a_second']:,.0f}",
            f"{cell['a_second_lowest']:,.0f}–{cell['a_second_highest']:,.0f}",
            *(f"{cell[f'{name}_cpu_us']:.1f}" for name in ("hub", "sender", "receiver")),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure durable messages a second through one hub.")
    parser.add_argument("--messages", type=int, default=MESSAGES_DEFAULT, help="per run (%(default)s)")
    parser.add_argument("--repeat", type=int, default=REPEAT_DEFAULT, help="runs per cell (%(default)s)")
    parser.add_argument("--stored", type=int, default=0, help="measure also with so many messages in the log")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works; no figures to quote")
    parser.add_argument("--durability", choices=DURABILITIES, action="append", help="only this one (both)")
    parser.add_argument("--transport", choices=TRANSPORTS, action="append", help="only this one (both)")
    parser.add_argument("--folder", type=Path, help="where the databases are put (the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--profile", type=Path, help="let each process leave a cProfile in this folder; distorts times")
    options = parser.parse_args()
    messages = min(options.messages, MESSAGES_QUICK) if options.quick else options.messages
    repeat = 1 if options.quick else options.repeat
    if messages < 1 or repeat < 1 or options.stored < 0:
        parser.error("--messages and --repeat must be at least 1, --stored at least 0")
    with Rig(folder=options.folder, profiles=options.profile) as rig:
        runs = measure(
            rig,
            durabilities=options.durability or DURABILITIES,
            transports=options.transport or TRANSPORTS,
            messages=messages,
            repeat=repeat,
            stored=options.stored,
        )
    figures = {
        "machine": machine(),
        "body_bytes": BODY_BYTES,
        "messages": messages,
        "repeat": repeat,
        "cells": cells_of(runs, options.stored),
        "runs": [asdict(run) for run in runs],
    }
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
