"""The old way: tasks and results as JSON files, and both sides look for them every second."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from rig import BODY_BYTES, Rig

PERIOD_S: Final = 1.0
_BODY: Final = "x" * BODY_BYTES


class Polling:
    """The orchestrator of the old way, and the agent process behind it."""

    def __init__(self, rig: Rig) -> None:
        self._folder = rig.make_folder()
        for name in ("inbox", "outbox"):
            (self._folder / name).mkdir()
        self._rig = rig
        self._agent = rig.start("polling-agent", run_agent, self._folder)
        self._agent.hear()

    def rounds(self, count: int) -> list[float]:
        """Return the seconds of `count` round trips; each task is written at a random moment of the period."""
        ticks = _ticks()
        taken: list[float] = []
        for number in range(count):
            time.sleep(random.uniform(0, PERIOD_S))
            began = time.perf_counter()
            _write(self._folder / "inbox", str(number), {"prompt": _BODY})
            result = self._folder / "outbox" / f"{number}.json"
            for _ in ticks:
                if result.exists():
                    break
            json.loads(result.read_text(encoding="utf-8"))
            taken.append(time.perf_counter() - began)
            result.unlink()
        return taken

    def close(self) -> None:
        self._rig.stop(self._agent)


def run_agent(pipe: Connection, folder: Path) -> None:
    """Role: an agent that lists its inbox every period, and answers what it finds."""
    pipe.send("ready")
    for _ in _ticks():
        for path in (folder / "inbox").glob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
            _write(folder / "outbox", path.stem, {"output": _BODY})


def _ticks() -> Iterator[None]:
    """Give one moment per period. Which ones were missed while nobody asked is not made up for."""
    due = time.monotonic()
    while True:
        due += PERIOD_S
        while due < time.monotonic():
            due += PERIOD_S
        time.sleep(max(0.0, due - time.monotonic()))
        yield


def _write(folder: Path, name: str, content: dict[str, str]) -> None:
    draft = folder / f"{name}.draft"
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.rename(folder / f"{name}.json")
