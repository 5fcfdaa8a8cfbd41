"""Output on its way to whoever watches: gathered for a moment, and bounded where a task prints too fast to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from orchestra.limits import KIB

_GATHER_S: Final = 0.02
_BYTES_MAX: Final = 64 * KIB  # at most this in one go: 3 MB a second


class Progress:
    """Gathers pieces and passes them to `tell`, at most one call every 20 ms."""

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._pending = bytearray()
        self._skipped = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > _BYTES_MAX:
            surplus = len(self._pending) - _BYTES_MAX
            self._skipped += surplus
            del self._pending[:surplus]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self.flush)

    def flush(self) -> None:
        """Pass on what is there; call it once more at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        note = f"[... {self._skipped} bytes are not shown ...]\n".encode() if self._skipped else b""
        if self._pending:
            self._tell(note + bytes(self._pending))
        self._pending.clear()
        self._skipped = 0
