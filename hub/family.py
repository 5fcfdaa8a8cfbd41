"""Families: which unfinished tasks belong to which, so that canceling one cancels what was asked for it. Pure."""

from __future__ import annotations

from collections.abc import Collection

from .board import Task


class Family:
    """The unfinished tasks that are under others. What a task is under is `above` in its extras."""

    def __init__(self) -> None:
        self._under: dict[int, dict[int, Task]] = {}
        """Seq of an unfinished task → the unfinished ones right under it, by seq."""

    def add(self, task: Task) -> None:
        """Take in a task, which may be under another."""
        if task.extras is not None and task.extras.above:
            self._under.setdefault(task.extras.above, {})[task.seq] = task

    def close(self, task: Task) -> Collection[Task]:
        """Forget a task that is over; what was right under it goes under what it was under. Return those."""
        if not self._under:
            return ()
        children = self._under.pop(task.seq, {})
        above = task.extras.above if task.extras is not None else 0
        siblings = self._under.get(above, {})
        siblings.pop(task.seq, None)
        for child in children.values():
            child.more.above = above
        if above and children:
            self._under[above] = siblings | children
        elif not siblings:
            self._under.pop(above, None)
        return children.values()

    def below(self, seq: int) -> list[Task]:
        """Return every unfinished task under `seq`, however far."""
        found: list[Task] = []
        level = [seq]
        while level:
            children = [child for each in level for child in self._under.get(each, {}).values()]
            found += children
            level = [child.seq for child in children]
        return found
