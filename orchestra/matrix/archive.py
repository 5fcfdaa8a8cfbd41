"""A memory for asyncio: its store lives in a thread of its own, so that a disk that is slow holds up no connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from orchestra.memory.store import Store

T = TypeVar("T")


class Archive:
    """An open memory. Use it as an asynchronous context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = Store(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memory")

    async def do(self, work: Callable[[Store], T]) -> T:
        """Run `work` with the store, one after the other; what it raises is raised. When canceled it is still done."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.do(Store.close)
        self._thread.shutdown()
