"""The answer to a task that came as a file: a result file, written in a way that no crash loses or doubles it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from orchestra.errors import BadFile
from orchestra.task import TaskState

from .claims import Claim, Claims, Step
from .folder import Folder
from .intake import shown
from .oldfile import COMPLETED, ERROR, OldResult, agent_id
from .output import Output
from .process import Ending
from .trust import Trust

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 1.0  # before the first try to write a result again,
_PAUSE_S_MAX: Final = 30.0  # and before any later one


class Replies:
    """Writes result files into the folders that `folder_of` gives.

    In this order: the draft is on the disk; the claim says so; the draft gets its name; the claim says that too. Who
    finds a claim `written` sees from the draft whether it still has to get its name. A result that was published is
    never published again: its reader may have removed it.
    """

    def __init__(self, folder_of: Callable[[str], Path], trust: Trust, claims: Claims) -> None:
        self._folder_of = folder_of
        self._trust = trust
        self._claims = claims

    async def write(self, claim: Claim, data: bytes, *, keep: bool = False) -> Claim:
        """Write the draft of a result file; return the claim that says so, for `publish`.

        `keep` keeps the result with the claim too. Waits for a disk that is full.
        """
        await self._insist(claim, lambda folder: folder.write_draft(_draft(claim), data))
        written = replace(claim, step=Step.WRITTEN, changed_ms=now_ms(), result=data if keep else b"")
        await self._claims.put(written)
        return written

    async def publish(self, written: Claim) -> None:
        """Give the draft of a written claim its name, if it has not got it already."""
        await self._insist(written, lambda folder: folder.publish(_draft(written), f"result_{written.task}.json"))
        await self._claims.put(replace(written, step=Step.ANSWERED, changed_ms=now_ms()))

    async def _insist(self, claim: Claim, deed: Callable[[Folder], object]) -> None:
        """Do something in the folder of a result, again and again until it can be done."""
        pause_s = _PAUSE_S
        while True:
            try:
                with self._folder(claim.folder) as folder:
                    deed(folder)
                return
            except (OSError, BadFile) as exc:
                if pause_s == _PAUSE_S:
                    logger.warning(
                        "the result of task %s can't be written to %s: %s; trying again",
                        shown(claim.task),
                        self._folder_of(claim.folder),
                        exc,
                        extra={"action": "result_unwritten"},
                    )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _folder(self, name: str) -> Folder:
        path = self._folder_of(name)
        path.mkdir(parents=True, exist_ok=True)
        return Folder(path, self._trust)


def old_result(claim: Claim, facts: dict[str, Any]) -> OldResult:
    """Return what an old agent would have answered, from what `task.get` tells of a task that is over."""
    report, is_done = facts["report"], facts["state"] == TaskState.COMPLETED
    last = facts["attempts"][-1] if facts["attempts"] else {"began_ms": facts["updated_ms"]}
    output = facts["output"].decode("utf-8", "replace")
    reason = str(report.get("text") or facts["state"])
    extra: dict[str, Any] = {"hub_task": claim.seq}
    if not is_done:
        extra["error"] = reason
    return OldResult(
        task_id=claim.old_id,
        agent_id=agent_id(claim.folder),
        status=COMPLETED if is_done else ERROR,
        output=output if is_done or output else reason,
        started_at=iso(last["began_ms"]),
        completed_at=iso(facts["updated_ms"]),
        duration_ms=int(report.get("duration_ms", max(0, facts["updated_ms"] - last["began_ms"]))),
        extra=tuple(extra.items()),
    )


def own_result(claim: Claim, ending: Ending, output: Output) -> OldResult:
    """Return what an old agent would have answered, from how a program of ours has just ended."""
    ended_ms = now_ms()
    text = output.result().decode("utf-8", "replace")
    extra = {} if ending.exit_code is None else {"exit_code": ending.exit_code}
    return OldResult(
        task_id=claim.old_id,
        agent_id=agent_id(claim.folder),
        status=ERROR if ending.code else COMPLETED,
        output=text or ending.text,
        started_at=iso(ended_ms - ending.duration_ms),
        completed_at=iso(ended_ms),
        duration_ms=ending.duration_ms,
        extra=tuple({**extra, **({"error": ending.text} if ending.code else {})}.items()),
    )


def _draft(claim: Claim) -> str:
    return f".result_{claim.task}.draft"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """Return a time as the old agents wrote it: 2026-01-31T14:05:00.000Z."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
