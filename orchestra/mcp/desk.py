"""What all tools share: the open memory, the link to the hub, and who asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from orchestra.errors import ConnectionLost
from orchestra.limits import HUB_MEET_S
from orchestra.matrix import unsent
from orchestra.matrix.archive import Archive
from orchestra.matrix.link import Link
from orchestra.memory.meaning import Semantics
from orchestra.memory.store import Store

from . import answers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """`author` is who learns and reports here."""

    archive: Archive
    semantics: Semantics
    link: Link
    project: str
    author: str

    @property
    def me(self) -> str:
        return str(self.link.matrix.address)

    async def do(self, work: Callable[[Store], T]) -> T:
        """Do `work` with the memory; what it wrote gets its vectors soon."""

        def doing(store: Store) -> T:
            store.has_written = False
            result = work(store)
            if store.has_written:
                self.semantics.wake()
            return result

        return await self.archive.do(doing)

    async def hub(self) -> answers.Hub:
        """Say whether the hub is there, and what waits for it."""
        return answers.Hub(
            is_connected=not self.link.reason,
            matrix=self.me,
            reason=self.link.reason,
            waiting=await self.do(unsent.count),
        )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


async def soon(asking: Coroutine[Any, Any, T]) -> T:
    """Wait for an answer of the hub, but not for a hub that went away.

    Raises:
        ConnectionLost: if it does not come in time; what was on its way may be done still.
    """
    try:
        return await asyncio.wait_for(asking, HUB_MEET_S)
    except TimeoutError as exc:
        raise ConnectionLost(f"the hub did not answer within {HUB_MEET_S:g} s; ask again") from exc
