"""One question to the hub from somebody who has no session: asked in a turn, answered after its commit."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestra.errors import PeerError, error_of
from orchestra.wire import CALL, ERROR, REPLY, Record, pack

from .link import DirectLink

_REF = 1


class Inquiry(DirectLink):
    """A link on which one CALL is asked. `answered` gives its result."""

    def __init__(self, method: str, params: dict[str, Any]) -> None:
        self.frame = pack([[CALL, _REF, method, params]])
        self.answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def deliver(self, records: list[Record]) -> bool:
        for record in records:
            if self.answered.done():
                continue
            if record[0] == REPLY:
                self.answered.set_result(record[2])
            elif record[0] == ERROR:
                error = error_of(record[3], record[4])
                self.answered.set_exception(error if isinstance(error, PeerError) else PeerError(record[4]))
        return True

    def kick(self) -> None:
        """It ends with its answer."""
