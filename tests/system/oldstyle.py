"""An orchestrator and an agent of the old kind, written after the old protocol: they know files and nothing else."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK_S = 0.05  # theirs was 1; the protocol does not say
TASK_FIELDS = {"id", "prompt", "context", "priority", "working_dir", "session_id", "auto_save_session"}
RESULT_FIELDS = {"task_id", "agent_id", "status", "output", "started_at", "completed_at", "duration_ms"}


class OldOrchestrator:
    """Writes tasks for agents that have numbers, and collects their results."""

    def __init__(self, inbox: Path, outbox: Path) -> None:
        self.inbox, self.outbox = inbox, outbox
        self.results: dict[Any, dict[str, Any]] = {}
        self.came: Counter[Any] = Counter()

    def submit(self, agent: int, task: dict[str, Any], *, name: str = "") -> Path:
        assert {"id", "prompt"} <= task.keys() <= TASK_FIELDS
        folder = self.inbox / str(agent)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (name or f"{task['id']}.json")
        with path.open("w") as file:  # in place: who looks meanwhile sees half of it
            text = json.dumps(task)
            file.write(text[: len(text) // 2])
            file.flush()
            file.write(text[len(text) // 2 :])
        return path

    def collect(self) -> None:
        """Take what is in the folders of results now."""
        for path in self.outbox.glob("*/result_*.json"):
            result = json.loads(path.read_text())
            path.unlink()
            assert result.keys() >= RESULT_FIELDS
            assert path.name == f"result_{result['task_id']}.json"
            assert str(result["agent_id"]) == path.parent.name
            assert result["status"] in ("completed", "error")
            self.results[result["task_id"]] = result
            self.came[result["task_id"]] += 1

    def wait(self, count: int, *, bound_s: float) -> None:
        """Collect until so many tasks are answered."""
        deadline = time.monotonic() + bound_s
        while len(self.results) < count:
            assert time.monotonic() < deadline, f"{len(self.results)} of {count} results after {bound_s:.0f} s"
            time.sleep(LOOK_S / 2)
            self.collect()


class OldAgent:
    """Lists its folder again and again, takes the files in the order of their names, and writes results."""

    def __init__(self, number: int, inbox: Path, outbox: Path, *, work: Callable[[dict[str, Any]], str]) -> None:
        self.done: list[Any] = []
        self._number, self._work = number, work
        self._inbox, self._outbox = inbox / str(number), outbox / str(number)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            there = os.listdir(self._inbox) if self._inbox.exists() else []  # noqa: PTH208
            for name in sorted(each for each in there if each.endswith(".json")):
                task = json.loads((self._inbox / name).read_text())
                (self._inbox / name).unlink()
                self._do(task)

    def _do(self, task: dict[str, Any]) -> None:
        began = time.time()
        try:
            status, output = "completed", self._work(task)
        except ValueError as exc:
            status, output = "error", str(exc)
        self.done.append(task["id"])
        result = {
            "task_id": task["id"],
            "agent_id": self._number,
            "status": status,
            "output": output,
            "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "completed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_ms": round((time.time() - began) * 1000),
        }
        self._outbox.mkdir(parents=True, exist_ok=True)
        (self._outbox / f"result_{task['id']}.json").write_text(json.dumps(result))
