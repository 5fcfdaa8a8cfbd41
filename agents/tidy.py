"""Removes, now and then, what was put away long ago and what is known of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from orchestra.errors import BadFile

from .claims import Claims
from .folder import Folder
from .reply import now_ms
from .trust import Trust

logger = logging.getLogger(__name__)

_REST_S: Final = 3600.0


async def tidy(claims: Claims, folders: Callable[[], Iterable[Path]], trust: Trust) -> None:
    """Look after the claims and the folders, at once and every hour; never ends."""
    while True:
        claims.prune(now_ms=now_ms())
        for path in folders():
            try:
                with Folder(path, trust) as folder:
                    folder.prune()
            except (OSError, BadFile) as exc:
                logger.warning("what was put away in %s can't be looked at: %s", path, exc)
        await asyncio.sleep(_REST_S)
