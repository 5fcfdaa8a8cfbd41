"""Folders that are watched: told of by the system (inotify), and looked at all over every few seconds in any case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

from orchestra.limits import FILE_SWEEP_S

logger = logging.getLogger(__name__)

_STEP_MS: Final = 5  # changes are told once none came for so long: 100 wake-ups a second cost more than 10 ms save
_GATHER_MS: Final = 25  # while there are always more of them
_BLIND_S: Final = 1.0  # between two looks where the system tells nothing


class Watch:
    """Gives the folders below `root` in which a file may have come or changed."""

    def __init__(self, root: Path, *, folders: Callable[[], list[str]]) -> None:
        """`folders` returns the names of all that are meant."""
        self._root = root
        self._folders = folders
        self._wanted: set[str] = set()
        self._is_blind = False
        self._told = asyncio.Event()

    def look_again(self, folder: str) -> None:
        """Give `folder` once more, soon."""
        self._wanted.add(folder)
        self._told.set()

    async def changes(self) -> AsyncIterator[set[str]]:
        """Give all folders first, then those that changed. For one reader."""
        listening = asyncio.ensure_future(self._listen())
        clock = asyncio.get_running_loop().time
        try:
            await asyncio.sleep(0)  # until the system has been asked: what comes after the first look is told
            yield set(self._folders())
            while True:
                due = clock() + (_BLIND_S if self._is_blind else FILE_SWEEP_S)
                while clock() < due:
                    with suppress(TimeoutError):  # not wait_for: before Python 3.12 that may swallow a cancellation
                        async with asyncio.timeout(due - clock()):
                            await self._told.wait()
                    self._told.clear()
                    wanted, self._wanted = self._wanted, set()
                    if wanted:
                        yield wanted & set(self._folders())
                yield set(self._folders())
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change
        while True:
            try:
                await self._hear()
            except* (OSError, RuntimeError) as group:
                # It gives up at a name that is not UTF-8, too: then it only has to begin again.
                logger.warning(
                    "the system tells nothing of changes below %s (%s); it is looked at every %.0f s meanwhile",
                    self._root,
                    _first(group),
                    _BLIND_S,
                    extra={"action": "watch_blind"},
                )
            self._is_blind = True
            self._look_everywhere()
            await asyncio.sleep(_BLIND_S)
            self._look_everywhere()

    async def _hear(self) -> None:
        async with aclosing(awatch(self._root, watch_filter=_is_meant, step=_STEP_MS, debounce=_GATHER_MS)) as told:
            async for changes in told:
                self._is_blind = False
                for _, path in changes:
                    for folder in Path(path).relative_to(self._root).parts[:1]:
                        self.look_again(folder)

    def _look_everywhere(self) -> None:
        self._wanted |= set(self._folders())
        self._told.set()


def _first(fault: BaseException) -> BaseException:
    return _first(fault.exceptions[0]) if isinstance(fault, BaseExceptionGroup) else fault


def _is_meant(change: Change, path: str) -> bool:
    """Whether something may have to be read there: not in what was put away, and not a draft."""
    *_, folder, name = Path(path).parts
    return change is not Change.deleted and not name.startswith(".") and not folder.startswith(".")
