"""The way over: tasks and results are JSON files as before, but a bridge takes them to the hub and brings them back."""

from __future__ import annotations

import asyncio
import json
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from rig import BODY_BYTES, Durability, Rig, RunningHub, open_client

from orchestra.address import parse_peer
from orchestra.agents.agentmap import parse_map
from orchestra.agents.bridge import Bridge
from orchestra.agents.claims import Claims, claims_of
from orchestra.agents.settings import BridgeSettings
from orchestra.agents.trust import Trust
from orchestra.keys import KeyPair
from orchestra.limits import FILE_BYTES_MAX
from orchestra.state import HubCard, StateFolder
from orchestra.task import TaskState

_ORCHESTRATOR: Final = "matrix/bench"
_AGENT: Final = "agent/bench"
_BODY: Final = "x" * BODY_BYTES
_LOOK_S: Final = 0.0002  # between two looks for a result: how soon it is seen is not what is measured
_ROUND_S_MAX: Final = 30.0


class Bridged:
    """The orchestrator of the old way; a bridge, a hub and an agent, each a process, behind it."""

    def __init__(self, rig: Rig, *, durability: Durability) -> None:
        self._rig = rig
        self._folder = rig.make_folder()
        for name in ("inbox/1", "outbox/1"):
            (self._folder / name).mkdir(parents=True)
        self._hub: RunningHub = rig.start_hub(durability)
        keys = asyncio.run(self._hub.register(_ORCHESTRATOR, _AGENT))
        card = self._hub.over("ipc")
        self._parts = [
            rig.start("bridged-agent", run_agent, card, keys[_AGENT]),
            rig.start("bridge", run_bridge, card, keys[_ORCHESTRATOR], self._folder),
        ]
        for part in self._parts:
            part.hear()

    def rounds(self, count: int) -> list[float]:
        """Return the seconds of `count` round trips: from the file of a task to that of its result."""
        taken: list[float] = []
        for number in range(count):
            result = self._folder / "outbox" / "1" / f"result_{number}.json"
            began = time.perf_counter()
            task = self._folder / "inbox" / "1" / f"{number}.json"
            task.write_text(json.dumps({"id": number, "prompt": _BODY}), encoding="utf-8")
            while not result.exists():
                time.sleep(_LOOK_S)
                if time.perf_counter() - began > _ROUND_S_MAX:
                    raise AssertionError(f"no result of task {number} after {_ROUND_S_MAX:.0f} s")
            assert json.loads(result.read_text(encoding="utf-8"))["status"] == "completed"
            taken.append(time.perf_counter() - began)
            result.unlink()
        return taken

    def close(self) -> None:
        self._rig.stop(*self._parts)
        self._rig.stop_hub(self._hub)


def run_agent(pipe: Connection, card: HubCard, key: KeyPair) -> None:
    """Role: an agent that reports each task as done at once."""

    async def serve() -> None:
        async with await open_client(card, _AGENT, key, slots=1) as client:
            client.on_assigned = lambda task: client.report(task, TaskState.COMPLETED, {}, _BODY.encode())
            pipe.send("ready")
            await client.wait_over()

    asyncio.run(serve())


def run_bridge(pipe: Connection, card: HubCard, key: KeyPair, folder: Path) -> None:
    """Role: a bridge, as `orchestra bridge files` runs it."""

    async def serve() -> None:
        me = os.geteuid()
        settings = BridgeSettings(
            address=parse_peer(_ORCHESTRATOR),
            state=StateFolder(folder),
            inbox=folder / "inbox",
            outbox=folder / "outbox",
            agents=parse_map(f"1={_AGENT}", []),
            trust=Trust(me, "me", me, FILE_BYTES_MAX),
        )
        async with await open_client(card, _ORCHESTRATOR, key) as client:
            claims = Claims(claims_of(settings.inbox))
            pipe.send("ready")
            await Bridge(settings, client, claims).run()

    asyncio.run(serve())
