"""How soon a message is in the inbox of a model: from the send until `get_inbox` of another clone's server shows it.

A hub, and the MCP server of a clone as a process that the SDK's own client starts and asks over pipes. A peer sends one
message at a time; the model asks again and again until it is there. The time runs from the begin of the send, so it
holds the hub's commit, the push, the memory's own commit, and the asking.

    python bench/inbox.py [--rounds N] [--quick] [--folder FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from mcp import Client, StdioServerParameters
from rich.table import Table
from rig import Rig, RigFault, RunningHub, machine, machine_line, open_client, percentile, wide_console

ROUNDS_DEFAULT: Final = 500
ROUNDS_QUICK: Final = 20
WARM_UP_ROUNDS: Final = 20
ROUND_S_MAX: Final = 10.0

_SENDER: Final = "matrix/sender"
_CLONE: Final = "clone"


async def measure(hub: RunningHub, clone: Path, rounds: int) -> dict[str, Any]:
    """Return the times in seconds, and how often the first look showed the message."""
    keys = await hub.register(_SENDER)
    args = ["-m", "orchestra", "mcp", "--state", str(hub.state.path)]
    server = StdioServerParameters(command=sys.executable, args=args, cwd=clone)
    times: list[float] = []
    first_looks = 0
    async with (
        Client(server) as model,
        await open_client(hub.card, _SENDER, keys[_SENDER]) as sender,
    ):
        await model.call_tool("get_inbox", {})
        for number in range(WARM_UP_ROUNDS + rounds):
            began = time.perf_counter()
            await sender.send(f"matrix/{_CLONE}", f"message {number}")
            looks = 1
            while await _unread(model) <= number:
                looks += 1
                if time.perf_counter() - began > ROUND_S_MAX:
                    raise RigFault(f"message {number} did not come within {ROUND_S_MAX:.0f} s")
            if number >= WARM_UP_ROUNDS:
                times.append(time.perf_counter() - began)
                first_looks += looks == 1
    return {"times_s": times, "first_looks": first_looks}


async def _unread(model: Client) -> int:
    result = await model.call_tool("get_inbox", {"limit": 1})
    if result.is_error or result.structured_content is None:
        raise RigFault(f"get_inbox failed: {result.content}")
    return int(result.structured_content["unread"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT, help="messages that are timed")
    parser.add_argument("--quick", action="store_true", help="a few rounds: does it still work?")
    parser.add_argument("--folder", type=Path, help="where the databases are put")
    parser.add_argument("--json", type=Path, help="file for all figures")
    chosen = parser.parse_args()
    with Rig(folder=chosen.folder) as rig:
        clone = rig.make_folder() / _CLONE
        (clone / ".git").mkdir(parents=True)
        found = asyncio.run(measure(rig.start_hub("full"), clone, ROUNDS_QUICK if chosen.quick else chosen.rounds))
    ordered = sorted(found["times_s"])
    table = Table(title="from the send until get_inbox shows it, ms")
    for column in ("rounds", "p50", "p99", "max", "seen by the first look"):
        table.add_column(column, justify="right")
    shown = (f"{each * 1000:.1f}" for each in (percentile(ordered, 50), percentile(ordered, 99), ordered[-1]))
    table.add_row(str(len(ordered)), *shown, str(found["first_looks"]))
    console = wide_console()
    console.print(table)
    console.print(machine_line())
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": machine(), **found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
