"""ChromaDB in a process of its own, seen from its owner, who keeps the deadlines and kills it when one passes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from orchestra.errors import IndexFault
from orchestra.limits import INDEX_START_S, INDEX_WRITE_S

from . import pipe


def chromadb_version() -> str:
    """Return the version of ChromaDB that is installed, without loading it; empty if there is none."""
    if find_spec("chromadb") is None:
        return ""
    try:
        return metadata.version("chromadb")
    except metadata.PackageNotFoundError:
        return ""


class Chroma:
    """The process. Use from one thread. It is started at once, and ready later: `is_ready` never waits.

    Raises (all methods):
        IndexFault: if the process is dead, hangs, or ChromaDB raised something; it is killed then.
    """

    def __init__(self, folder: Path, *, lock: int, log: IO[bytes] | int = subprocess.DEVNULL) -> None:
        """Start it. It holds `lock`, a descriptor with a lock on the folder, for as long as it lives."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestra.memory.chromachild", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C is for its owner, which ends it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), pipe.Reader(self._process.stdout.fileno())
        os.set_blocking(self._in, False)
        os.set_blocking(self._process.stdout.fileno(), False)
        self._deadline = time.monotonic() + INDEX_START_S
        self._is_ready = False
        try:
            pipe.send(self._in, ["open"], deadline=self._deadline)
        except OSError as exc:
            raise self._death("open") from exc

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_ready(self, *, within_s: float = 0.0) -> bool:
        """Whether it has its folder open."""
        if not self._is_ready:
            try:
                self._answer("open", deadline=time.monotonic() + within_s)
            except TimeoutError:
                if time.monotonic() > self._deadline:
                    self.close()
                    raise IndexFault(f"ChromaDB did not open its files within {INDEX_START_S:.0f} s") from None
                return False
            self._is_ready = True
        return True

    def count(self) -> int:
        return int(self._ask("count", within_s=INDEX_WRITE_S))

    def upsert(self, ids: Sequence[int], vectors: Sequence[bytes]) -> None:
        self._ask("upsert", list(ids), list(vectors), within_s=INDEX_WRITE_S)

    def delete(self, ids: Sequence[int]) -> None:
        self._ask("delete", list(ids), within_s=INDEX_WRITE_S)

    def nearest(self, vectors: Sequence[bytes], count: int, *, within_s: float) -> list[list[int]]:
        """Return for each vector the ids of the nearest, best first."""
        found: list[list[int]] = self._ask("nearest", list(vectors), count, within_s=within_s)
        return found

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for each in (self._process.stdin, self._process.stdout):
            assert each is not None
            each.close()

    def _ask(self, operation: str, *arguments: Any, within_s: float) -> Any:
        deadline = time.monotonic() + within_s
        try:
            pipe.send(self._in, [operation, *arguments], deadline=deadline)
            return self._answer(operation, deadline=deadline)
        except TimeoutError:
            self.close()
            raise IndexFault(f"ChromaDB did not answer to {operation} within {within_s:g} s") from None
        except OSError as exc:
            raise self._death(operation) from exc

    def _answer(self, operation: str, *, deadline: float) -> Any:
        try:
            is_done, result = self._out.receive(deadline=deadline)
        except EOFError as exc:
            raise self._death(operation) from exc
        if not is_done:
            self.close()
            raise IndexFault(f"ChromaDB failed in {operation}: {result}")
        return result

    def _death(self, operation: str) -> IndexFault:
        self.close()
        return IndexFault(f"ChromaDB's process died ({self._process.returncode}) in {operation}")
