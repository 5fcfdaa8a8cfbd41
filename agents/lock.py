"""Who may serve a folder: a file beside it that one process at a time holds, as long as it lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from orchestra.errors import StateFault


class Lock:
    """Holds `path` from when it is made until `close`, or until this process ends in whatever way.

    Raises:
        BlockingIOError: if another process holds it.
        OSError: if the file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)


def hold_inbox(inbox: Path) -> Lock:
    """Return the right to be the bridge of `inbox`.

    Raises:
        StateFault: if another bridge has it, or it is no folder that this user can write.
    """
    try:
        return Lock(inbox / ".bridge.lock")
    except BlockingIOError as exc:
        raise StateFault(f"another bridge serves {inbox}; stop that one first") from exc
    except OSError as exc:
        raise StateFault(f"{inbox} can't be served: {exc.strerror}") from exc


def lock_of(folder: Path) -> Path:
    """Where the right to take the tasks of `folder` is: beside it."""
    return folder.with_name(f".{folder.name}.lock")
