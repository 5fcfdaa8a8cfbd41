"""The process that has ChromaDB open: `python -m orchestra.memory.chromachild FOLDER`.

It reads frames on standard input and answers each on standard output: `[operation, argument…]` → `[true, result]`, or
`[false, sentence]`. It ends when its standard input does, also in the middle of a call to ChromaDB. What ChromaDB
prints goes to standard error. It never opens a connection: an attempt is refused inside the process.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import msgpack
import numpy as np

from .pipe import packed

_PR_SET_PDEATHSIG: Final = 1  # of Linux's prctl
_COLLECTION: Final = "memory"


class Chroma:
    """The collection in a folder. ChromaDB's own embedding function would download a model, so there is none."""

    def __init__(self, folder: str) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(folder, Settings(anonymized_telemetry=False))
        self._collection = client.get_or_create_collection(
            _COLLECTION,
            # With its default, l2, some rows are never found again.
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
        )

    def count(self) -> int:
        return int(self._collection.count())

    def upsert(self, ids: list[int], vectors: list[bytes]) -> None:
        self._collection.upsert(ids=[str(id) for id in ids], embeddings=_matrix(vectors))

    def delete(self, ids: list[int]) -> None:
        self._collection.delete(ids=[str(id) for id in ids])

    def nearest(self, vectors: list[bytes], count: int) -> list[list[int]]:
        """Return for each vector the ids of the nearest, best first."""
        held = self.count()
        if not held:  # asked for something, an empty collection raises
            return [[] for _ in vectors]
        found = self._collection.query(
            query_embeddings=_matrix(vectors),
            n_results=min(count, held),
            include=[],
        )
        return [[int(id) for id in ids] for ids in found["ids"]]


def main() -> None:
    """Answer until standard input ends."""
    _die_with_parent()
    sys.addaudithook(_refuse_network)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(frames,), daemon=True).start()
    chroma: Chroma | None = None
    while True:
        operation, *arguments = frames.get()
        try:
            if operation == "open":
                chroma = Chroma(sys.argv[1])
                result: Any = chroma.count()
            else:
                result = _OPERATIONS[operation](chroma, *arguments)
            answer = [True, result]
        except Exception as exc:  # noqa: BLE001  # whatever ChromaDB raises becomes an answer; its owner decides
            answer = [False, f"{type(exc).__name__}: {exc}"[:300]]
        out.write(packed(answer))
        out.flush()


_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "count": Chroma.count,
    "upsert": Chroma.upsert,
    "delete": Chroma.delete,
    "nearest": Chroma.nearest,
}


def _matrix(vectors: list[bytes]) -> Any:
    return np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)


def _read(frames: queue.SimpleQueue[Any]) -> None:
    while len(head := sys.stdin.buffer.read(4)) == 4:
        frames.put(msgpack.unpackb(sys.stdin.buffer.read(int.from_bytes(head, "little"))))
    os._exit(0)


def _die_with_parent() -> None:
    """Ask Linux to kill this process with its owner: a call into ChromaDB that never returns lets no thread run."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _refuse_network(event: str, _: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError("the index has no business on the network")


if __name__ == "__main__":
    main()
