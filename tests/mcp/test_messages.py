"""What the tools for messages say while others write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from orchestra.conversation import Message
from orchestra.matrix import letters
from orchestra.mcp import answers
from orchestra.mcp.desk import Desk
from orchestra.mcp.messages import Messages
from orchestra.memory.store import Store

from ..memory.memories import NOW

ME = "matrix/web"


class BusyDesk:
    """A desk at which another message comes after each use of the memory."""

    me = ME

    def __init__(self, store: Store) -> None:
        self._store = store
        self._came = 0
        self.link = self

    async def do(self, work: Callable[[Store], Any]) -> Any:
        result = work(self._store)
        self._came += 1
        message = Message(self._came, "matrix/api", ME, NOW, b"hello", 1, 1, {})
        letters.take_in(self._store, [message], hub="cafe", me=ME, project="web", now_ms=NOW)
        return result

    async def meet(self) -> None:
        await self.do(lambda store: None)

    async def hub(self) -> answers.Hub:
        return answers.Hub(is_connected=True, matrix=ME, reason="", waiting=0)


@pytest.mark.parametrize("mark_read", [False, True])
def test_the_unread_are_counted_in_the_moment_in_which_they_are_listed(tmp_path: Path, mark_read: bool) -> None:
    async def scenario() -> None:
        with Store(tmp_path / "memory.db") as store:
            messages = Messages(cast(Desk, BusyDesk(store)))
            before = await messages.get_inbox()
            assert (before.unread, before.messages) == (0, [])
            inbox = await messages.get_inbox(mark_read=mark_read)
            listed = [each for each in inbox.messages if each.is_unread]
            assert listed
            assert inbox.unread == (0 if mark_read else len(listed))

    asyncio.run(scenario())
