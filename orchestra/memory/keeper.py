"""The owner of a memory's vectors: makes those that are missing, keeps the index in step, and searches both."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import IO, Any, Final

from orchestra.errors import EmbedFault, RowRefused
from orchestra.limits import EMBED_ROWS

from . import vectors
from .embedder import Embedder
from .filters import Filters
from .index import Index
from .indexplace import IndexPlace
from .near import CHROMADB, EXACT, Near
from .nearest import Matrix, best, cosines
from .store import Store
from .vectors import Made, Waiting

_SLICE_S: Final = 0.1  # of making vectors, so that a question does not wait for long
_REST_S: Final = 30.0  # after the model's service failed
_ENOUGH: Final = 20  # proposals that the filters let through; with fewer, all that they let through is compared


class Keeper:
    """Whoever has the lock of the index has one of these. Use from one thread; close it.

    Raises (step, search, facts):
        StorageFault: if the memory can't be read or written.
    """

    def __init__(self, store: Store, place: IndexPlace, embedder: Embedder, *, log: IO[bytes] | int) -> None:
        self._store, self._place, self._embedder, self._log = store, place, embedder, log
        self._rest_until = 0.0
        self._matrix: Matrix | None = None
        self._index: Index | None = None
        self._dimensions = 0
        self.fault = ""
        """Why no vectors can be made at present."""
        self.marked = vectors.mark_others(store, model=embedder.name)
        self._set_dimensions(embedder.dimensions or vectors.dimensions(store, model=embedder.name))

    def close(self) -> None:
        if self._index is not None:
            self._index.close()

    @property
    def model(self) -> str:
        return self._embedder.name

    @property
    def index(self) -> Index | None:
        """The index, once the length of the vectors is known."""
        return self._index

    def step(self) -> bool:
        """Do one piece of work; return whether there may be more at once."""
        return self.embed_some() or (self._index is not None and self._index.step())

    def embed_some(self) -> bool:
        """Make some vectors and commit them; return whether there may be more."""
        if time.monotonic() < self._rest_until:
            return False
        rows = vectors.waiting(self._store, count_max=EMBED_ROWS)
        if not rows:
            self.fault = ""
            return False
        texts = self._texts(rows)
        made: list[Made] = []
        end = time.monotonic() + _SLICE_S
        try:
            while rows and (not made or time.monotonic() < end):
                some, rows = rows[: self._embedder.texts_a_call], rows[self._embedder.texts_a_call :]
                made += self._embed(some, texts)
            self.fault = ""
        except EmbedFault as exc:
            self.fault, self._rest_until = str(exc), time.monotonic() + _REST_S
        vectors.keep(self._store, made, model=self._embedder.name)
        return not self.fault

    def search(self, question: str, filters: Filters, *, among: Iterable[int], count_max: int) -> Near:
        """Return the nearest that the filters let through, and the cosines of `among`."""
        name = self._embedder.name
        try:
            (vector,) = self._embedder.embed([question])
        except EmbedFault as exc:
            return Near(model=name, reason=str(exc))
        if self._index is None or len(vector) != 4 * self._dimensions:
            return Near(model=name, reason="no memory has a vector yet")
        proposed = self._index.nearest(vector, count_max)
        by = EXACT if proposed is None else CHROMADB
        if proposed is None:
            proposed = self._exact(vector, count_max)
        else:
            self._matrix = None
        found = cosines(vector, vectors.chosen(self._store, filters, model=name, among={*proposed, *among}))
        if len(found) < min(_ENOUGH, len(proposed)):
            found = best(cosines(vector, vectors.chosen(self._store, filters, model=name)), count_max) | found
        return Near(found, by, name, self._index.reason if by == EXACT else "")

    def facts(self) -> dict[str, Any]:
        """Return how the index is, ready for JSON."""
        index = self._index.facts() if self._index is not None else {"backend": "exact", "behind": 0}
        return {**index, "model": self._embedder.name, "dimensions": self._dimensions, "fault": self.fault}

    def _exact(self, vector: bytes, count: int) -> list[int]:
        if self._matrix is None:
            self._matrix = Matrix(self._embedder.name, self._dimensions)
        self._matrix.refresh(self._store)
        return self._matrix.nearest(vector, count)

    def _texts(self, rows: list[Waiting]) -> dict[int, str]:
        marks = ", ".join("?" * len(rows))
        found = self._store.entries(f"WHERE m.id IN ({marks})", *(row.id for row in rows))
        return {entry.id: vectors.text_of(entry) for entry in found}

    def _embed(self, rows: list[Waiting], texts: dict[int, str]) -> list[Made]:
        """Return the vectors of these rows; what the service refuses is tried alone, and recorded."""
        rows = [row for row in rows if row.id in texts]
        try:
            found = self._embedder.embed([texts[row.id] for row in rows])
        except RowRefused as exc:
            if len(rows) > 1:
                return [made for row in rows for made in self._embed([row], texts)]
            vectors.refuse(self._store, rows, str(exc))
            return []
        if found and not self._dimensions:
            self._set_dimensions(len(found[0]) // 4)
        if any(len(each) != 4 * self._dimensions for each in found):
            raise EmbedFault(
                f"{self._embedder.name} now gives vectors of {len(found[0]) // 4} numbers, not {self._dimensions}; "
                "run: orchestra memory reindex --anew"
            )
        return [Made(row, vector) for row, vector in zip(rows, found, strict=True)]

    def _set_dimensions(self, dimensions: int) -> None:
        self._dimensions = dimensions
        if dimensions:
            self._index = Index(
                self._store, self._place, model=self._embedder.name, dimensions=dimensions, log=self._log
            )
