"""The index: ChromaDB with a copy of the vectors, followed by their numbers, checked, and thrown away when it fails.

It only proposes memories; their cosines are always those of the vectors in SQLite. So an index that is behind, wrong
or gone makes an answer slower to find, never false.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from orchestra.errors import IndexFault
from orchestra.limits import (
    INDEX_BYTES_A_ROW,
    INDEX_BYTES_MIN,
    INDEX_CHECKED_ROWS,
    INDEX_QUERY_S,
    INDEX_ROWS,
    INDEX_TAIL_ROWS_MAX,
    INDEX_WRITE_S,
)

from . import vectors
from .breaker import Breaker
from .chroma import Chroma, chromadb_version
from .indexplace import IndexPlace, Lock, read_json, write_json
from .nearest import cosines
from .store import Store

_CHECKED_AT_ONCE: Final = 100
_SAME: Final = 0.9999  # the cosine of two memories with the same text


class Index:
    """The index of one memory and one model. Only its owner has one; use it from one thread.

    No method raises for what happens to ChromaDB: `reason` says why it is not used, and `step` tries again.
    """

    def __init__(self, store: Store, place: IndexPlace, *, model: str, dimensions: int, log: IO[bytes] | int) -> None:
        self._store, self._place, self._log = store, place, log
        self._version = chromadb_version()
        self._model, self._dimensions = model, dimensions
        self._chroma: Chroma | None = None
        self._breaker = Breaker()
        self._is_to_set_aside = False
        self._seq = 0
        self.is_checked = False
        self.checked_ms = 0
        self.reason = "" if self._version else "chromadb is not installed"

    def close(self) -> None:
        if self._chroma is not None:
            self._chroma.close()
            self._chroma = None

    def step(self) -> bool:
        """Do one piece of work of at most some seconds; return whether there may be more at once."""
        if not self._version:
            return False
        try:
            if not self._is_ready():
                return False
            if self._push():
                return True
            if not self.is_checked:
                self.check(INDEX_CHECKED_ROWS)
        except IndexFault as exc:
            self._fail(str(exc))
        return False

    def wait_ready(self, *, within_s: float) -> None:
        """Wait for ChromaDB's process, for who has nothing else to do."""
        if self._chroma is not None:
            try:
                self._chroma.is_ready(within_s=within_s)
            except IndexFault as exc:
                self._fail(str(exc))

    def nearest(self, vector: bytes, count: int) -> list[int] | None:
        """Return ids that may be nearest, in no order; None if the index has no answer now."""
        if self._chroma is None:
            return None
        try:
            if not self._chroma.is_ready():
                return None
            tail = vectors.changes(self._store, after=self._seq, model=self._model, count_max=INDEX_TAIL_ROWS_MAX + 1)
            if len(tail) > INDEX_TAIL_ROWS_MAX:
                self.reason = "the index is being built"
                return None
            (found,) = self._chroma.nearest([vector], count, within_s=INDEX_QUERY_S)
        except IndexFault as exc:
            self._fail(str(exc))
            return None
        return found + [each.id for each in tail]

    def check(self, rows_max: int) -> int:
        """Search vectors by themselves, because counts alone never showed a loss; return how many were searched.

        Raises:
            IndexFault: if one is not found, the number of them is wrong, or the folder is too large.
        """
        assert self._chroma is not None
        wanted = vectors.count_until(self._store, until=self._seq, model=self._model)
        held = self._chroma.count()
        if vectors.count_after(self._store, after=self._seq, model=self._model):
            return 0  # something changed meanwhile; it is put in first
        if held != wanted:
            raise IndexFault(f"the index holds {held:,} of {wanted:,} vectors")
        size, size_max = self._place.bytes(), INDEX_BYTES_MIN + INDEX_BYTES_A_ROW * wanted
        if size > size_max:
            self._place.throw_away()
            raise IndexFault(f"the index takes {size / 2**20:.0f} MiB; the limit is {size_max / 2**20:.0f} MiB")
        rows = vectors.some(self._store, until=self._seq, model=self._model, count_max=rows_max)
        for begin in range(0, len(rows), _CHECKED_AT_ONCE):
            self._find(dict(rows[begin : begin + _CHECKED_AT_ONCE]))
        self._breaker.worked()
        self._place.begun.unlink(missing_ok=True)
        self.is_checked, self.checked_ms, self.reason = True, time.time_ns() // 1_000_000, ""
        return len(rows)

    def start_anew(self) -> None:
        """Throw the index away; it is built again from the vectors.

        Raises:
            IndexFault: if it can be neither removed nor moved.
        """
        self.close()
        try:
            self._place.throw_away()
        except IndexFault:
            self._place.set_aside()
        self._breaker.worked()
        self.is_checked, self._seq, self._is_to_set_aside = False, 0, False

    @property
    def is_wanted(self) -> bool:
        """Whether ChromaDB is installed."""
        return bool(self._version)

    @property
    def failures(self) -> int:
        """How often it failed in a row."""
        return self._breaker.failures

    def behind(self) -> int:
        """Return how many vectors are not in the index yet."""
        return vectors.count_after(self._store, after=self._seq, model=self._model) if self._version else 0

    def facts(self) -> dict[str, Any]:
        return {
            "backend": "chromadb" if self._is_used() else "exact",
            "reason": self.reason,
            "chromadb": self._version,
            "pid": self._chroma.pid if self._chroma is not None else 0,
            "behind": self.behind(),
            "checked_ms": self.checked_ms,
            "failures": self._breaker.failures,
            "set_aside": [str(path) for path in self._place.aside()],
        }

    @property
    def _files(self) -> Path:
        return self._place.folder / "chroma"

    def _is_used(self) -> bool:
        return self._chroma is not None and self.is_checked

    def _find(self, rows: dict[int, bytes]) -> None:
        assert self._chroma is not None
        found = self._chroma.nearest(list(rows.values()), 1, within_s=INDEX_WRITE_S)
        for (id, vector), ids in zip(rows.items(), found, strict=True):
            if id in ids:
                continue
            twins = cosines(vector, list(vectors.of(self._store, ids, model=self._model).items()))
            if max(twins.values(), default=0.0) < _SAME:
                raise IndexFault(f"the vector of memory #{id} is not found in the index")

    def _push(self) -> bool:
        assert self._chroma is not None
        found = vectors.changes(self._store, after=self._seq, model=self._model, count_max=INDEX_ROWS)
        if not found:
            return False
        if there := [each for each in found if each.vector is not None]:
            self._chroma.upsert([each.id for each in there], [each.vector or b"" for each in there])
        if gone := [each.id for each in found if each.vector is None]:
            self._chroma.delete(gone)
        self._seq = found[-1].seq
        self._write_meta()
        return True

    def _is_ready(self) -> bool:
        if self._chroma is None:
            if not self._breaker.lets(now=time.monotonic()):
                return False
            self._open()
        assert self._chroma is not None
        return self._chroma.is_ready()

    def _open(self) -> None:
        if self._is_to_set_aside or self._place.folder.is_symlink():
            self._place.set_aside()
            self._is_to_set_aside = False
        meta = read_json(self._place.meta)
        self._seq = int(meta.get("seq", 0))
        if {**meta, "seq": self._seq} != self._meta() and (meta or self._files.exists()):
            # Another model's, another version's or another memory's; ChromaDB's own migrations can't be undone.
            self._place.throw_away()
            self._seq = 0
        self.is_checked = False
        try:
            self._place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = Lock(self._place.folder / "process.lock")
        except BlockingIOError as exc:
            self._is_to_set_aside = True
            raise IndexFault("another process has the index open") from exc
        except OSError as exc:
            raise IndexFault(f"{self._place.folder} can't be written: {exc.strerror}") from exc
        try:
            self._write_meta()
            self._files.mkdir(mode=0o700, exist_ok=True)
            self.reason = self.reason or "ChromaDB is being started"
            self._chroma = Chroma(self._files, lock=lock.descriptor, log=self._log)
        except OSError as exc:
            raise IndexFault(f"ChromaDB's process can't be started: {exc.strerror}") from exc
        finally:
            lock.close()  # its process has it now

    def _fail(self, reason: str) -> None:
        self.close()
        self.reason, self.is_checked = reason, False
        self._is_to_set_aside |= self._breaker.failed(now=time.monotonic())

    def _meta(self) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            found = self._store.path.stat()
            return {
                "chromadb": self._version,
                "model": self._model,
                "dimensions": self._dimensions,
                "memory": f"{found.st_dev}:{found.st_ino}",
                "seq": self._seq,
            }
        return {"seq": self._seq}

    def _write_meta(self) -> None:
        try:
            write_json(self._place.meta, self._meta())
        except OSError as exc:
            raise IndexFault(f"{self._place.meta} can't be written: {exc.strerror}") from exc
