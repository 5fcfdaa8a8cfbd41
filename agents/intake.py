"""What comes in by file: reads the folders of tasks, and puts away what is not fit to be run, with the reason."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from orchestra.errors import BadFile, UnfinishedFile

from .claims import Claim, Step, Way
from .folder import Folder
from .oldfile import OldTask, key_of, read_task
from .patience import Patience
from .trust import Trust

logger = logging.getLogger(__name__)

_TOLD_MAX: Final = 1000  # sentences that are not repeated; all of them are, once there are more


@dataclass(frozen=True, slots=True)
class Arrival:
    """A task file that is fit to be taken."""

    folder: str
    name: str
    task: OldTask
    key: str

    @property
    def place(self) -> tuple[str, str]:
        """What the claim of its task is found by."""
        return self.folder, str(self.task.id)

    def claim(self, way: Way, *, address: str = "", losses: int = 0, now_ms: int) -> Claim:
        """Return what is claimed when its task is taken."""
        return Claim(
            folder=self.folder,
            task=str(self.task.id),
            way=way,
            step=Step.CLAIMED,
            key=self.key,
            name=os.fsencode(self.name),
            prompt=self.task.prompt_digest,
            is_number=int(type(self.task.id) is int),
            address=address,
            losses=losses,
            changed_ms=now_ms,
        )

    def put_away(self, folder: Folder) -> None:
        """Move the file to those that were taken, unless there is another task under its name by now."""
        folder.take(self.name, is_it=lambda data: _key(folder, self.name, data) == self.key)


class Intake:
    """Reads folders of tasks. `refused` counts the files that were put away."""

    def __init__(self, trust: Trust, *, patience: Patience | None = None) -> None:
        self.trust = trust
        self.refused = 0
        self._patience = patience or Patience()
        self._told: set[str] = set()

    def read(self, folder: Folder, *, skip: set[str]) -> Iterator[Arrival]:
        """Give what is fit in `folder`, in the order of the names, but for the names in `skip`.

        What is not, is refused; what may still be written is left for the next time.
        """
        waited = []
        for name in folder.names():
            if name in skip:
                continue
            try:
                data = folder.read(name)
                task = read_task(data, stem=name.removesuffix(".json"))
            except FileNotFoundError:
                continue
            except UnfinishedFile as fault:
                waited.append(name)
                if self.is_over(folder, name):
                    self.refuse(folder, name, str(fault))
                continue
            except BadFile as fault:
                self.refuse(folder, name, str(fault))
                continue
            if task.odd_priority:
                logger.warning("%s: priority %s is not known; it counts as normal", shown(name), task.odd_priority)
            yield Arrival(folder.path.name, name, task, _key(folder, name, data))
        self.forget_others(folder, waited)

    def forget_others(self, folder: Folder, waited: list[str]) -> None:
        """Forget how long files of `folder` were waited for that are not in `waited`."""
        self._patience.forget_others(folder.path.name, waited)

    def refuse(self, folder: Folder, name: str, reason: str) -> None:
        """Put a file away that is not run."""
        try:
            folder.refuse(name, reason)
        except (OSError, BadFile) as exc:
            self.tell_once(f"{shown(name)} in {folder.path} is refused ({reason}), and can't be put away: {exc}")
            return
        self.refused += 1
        logger.warning(
            "%s in %s is refused: %s (%d so far)",
            shown(name),
            folder.path,
            reason,
            self.refused,
            extra={"action": "file_refused"},
        )

    def tell_once(self, text: str) -> None:
        """Log what does not change by being looked at again."""
        if text not in self._told:
            if len(self._told) >= _TOLD_MAX:
                self._told.clear()
            self._told.add(text)
            logger.warning("%s", text, extra={"action": "file_trouble"})

    def is_over(self, folder: Folder, name: str) -> bool:
        """Say that a file is not whole; return whether it was waited for long enough."""
        try:
            state = folder.state_of(name)
        except FileNotFoundError:
            return False
        return self._patience.is_over(folder.path.name, name, state, now=time.monotonic())


def _key(folder: Folder, name: str, data: bytes) -> str:
    return key_of(str(folder.path), os.fsencode(name), data)


def shown(name: str) -> str:
    """Show the name of a file, which may hold anything, on one line of a log."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)
