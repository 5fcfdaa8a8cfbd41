"""How many tasks an agent may still begin, where they come from the hub and from files."""

from __future__ import annotations

from collections.abc import Callable


class Slots:
    """The hub is offered what files do not use; a file that waits gets the next slot that is free.

    `offer` tells the hub how many of its tasks may run at once, `freed` tells whoever waits; both may be exchanged.
    """

    def __init__(self, count: int) -> None:
        self.offer: Callable[[int], None] = lambda count: None
        self.freed: Callable[[], None] = lambda: None
        self._count = count
        self._lent = 0
        self._by_hub = 0
        self._is_wanted = False
        self._told = count

    @property
    def is_free(self) -> bool:
        return self._lent + self._by_hub < self._count

    @property
    def left_for_hub(self) -> int:
        return max(0, self._count - self._lent - self._is_wanted)

    def lend(self) -> bool:
        """Take a slot for a file; False if none is free, and then the next one is kept for it."""
        is_free = self.is_free
        self._lent += is_free
        self._is_wanted = not is_free
        self.tell()
        return is_free

    def give_back(self) -> None:
        """A task of a file has ended."""
        self._lent -= 1
        self.tell()
        self.freed()

    def want_none(self) -> None:
        """No file waits, as far as is known; say so with `tell`, once all were looked at."""
        self._is_wanted = False

    def begin_by_hub(self) -> None:
        """Count a task that the hub gave."""
        self._by_hub += 1

    def end_by_hub(self) -> None:
        self._by_hub -= 1
        self.freed()

    def tell(self) -> None:
        """Tell the hub, where it is news."""
        if self.left_for_hub != self._told:
            self._told = self.left_for_hub
            self.offer(self._told)
