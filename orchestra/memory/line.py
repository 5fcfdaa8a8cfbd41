"""The line to the indexer: a Unix socket beside the memory, one question a connection."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from orchestra.errors import IndexFault
from orchestra.state import IPC_PATH_BYTES_MAX

from . import pipe

_WAITING_MAX: Final = 16  # connections that wait for the indexer


def ask(path: Path, question: list[Any], *, within_s: float, is_answer_wanted: bool = True) -> Any:
    """Ask the indexer behind this socket; return its answer, or nothing at once where none is wanted.

    Raises:
        ConnectionError: if there is no indexer.
        TimeoutError: if it does not answer in time.
        IndexFault: if it could not do what was asked.
    """
    deadline = time.monotonic() + within_s
    with _address(path) as address, socket.socket(socket.AF_UNIX) as line:
        line.settimeout(max(0.001, within_s))
        try:
            line.connect(address)
            line.setblocking(False)
            pipe.send(line.fileno(), question, deadline=deadline)
            if not is_answer_wanted:
                return None
            is_done, result = pipe.Reader(line.fileno()).receive(deadline=deadline)
        except (BlockingIOError, TimeoutError) as exc:  # too many wait already, or it is stopped
            raise TimeoutError from exc
        except (FileNotFoundError, ConnectionError, EOFError) as exc:
            raise ConnectionError(f"no indexer at {path}") from exc
    if not is_done:
        raise IndexFault(str(result))
    return result


def listen(path: Path) -> socket.socket:
    """Return a socket that is asked at this path; this user alone may. Only for who holds the lock of the index.

    Raises:
        OSError: if it can't be made.
    """
    path.unlink(missing_ok=True)
    line = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        with _address(path) as address:
            line.bind(address)
    except OSError:
        line.close()
        raise
    finally:
        os.umask(mask)
    line.listen(_WAITING_MAX)
    line.setblocking(False)
    return line


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give the path as a socket may have it: a longer one is reached through the descriptor of its folder."""
    if len(os.fsencode(path)) <= IPC_PATH_BYTES_MAX or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise ConnectionError(f"no indexer at {path}") from exc
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
