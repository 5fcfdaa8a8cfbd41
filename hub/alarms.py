"""Alarms: which tasks have to be looked at when. Pure.

One clock per instance. An alarm that nobody needs any more stays until its time, or until there are more of those than
tasks; whoever is called looks at the task first.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator

_SPARE = 64  # that many forgotten alarms are never worth a sweep


class Alarms:
    """Numbers of tasks by time, in milliseconds of one clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, when_ms: int, seq: int) -> None:
        heapq.heappush(self._heap, (when_ms, seq))

    def due(self, now_ms: int) -> Iterator[int]:
        """Give the tasks whose time has come; each alarm rings once."""
        while self._heap and self._heap[0][0] <= now_ms:
            yield heapq.heappop(self._heap)[1]

    def sweep(self, known: Container[int], *, count: int) -> None:
        """Forget the alarms of tasks that are not among the `count` known ones, once it is worth it."""
        if len(self._heap) > 2 * count + _SPARE:
            self._heap = [alarm for alarm in self._heap if alarm[1] in known]
            heapq.heapify(self._heap)
