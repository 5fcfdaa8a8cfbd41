"""A file that one process at a time holds, as long as it lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


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
