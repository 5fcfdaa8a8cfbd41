"""Links that are told by a call of their own. Those of the ROUTER are bytes, and are told through it. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod

from orchestra.wire import Record


class DirectLink(ABC):
    """One connection, or one question, that the hub answers without the ROUTER."""

    __slots__ = ()

    @abstractmethod
    def deliver(self, records: list[Record]) -> bool:
        """Owe `records`; False if the other side is gone, or does not read."""

    @abstractmethod
    def kick(self) -> None:
        """Close it, once it was told what it is owed."""
