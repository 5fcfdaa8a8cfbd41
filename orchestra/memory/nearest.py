"""Exact cosine by numpy: which vectors are nearest to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .minilm import Floats
from .store import Store
from .vectors import changes

_BATCH = 5_000


def cosines(vector: bytes, rows: Sequence[tuple[int, bytes]]) -> dict[int, float]:
    """Return the cosine of each row with the vector; all have length 1. Rows of another length are left out."""
    rows = [row for row in rows if len(row[1]) == len(vector)]
    if not rows:
        return {}
    matrix = np.frombuffer(b"".join(each for _, each in rows), "<f4").reshape(len(rows), -1)
    found = matrix @ np.frombuffer(vector, "<f4")
    return dict(zip((id for id, _ in rows), (float(each) for each in found), strict=True))


def best(found: dict[int, float], count: int) -> dict[int, float]:
    return dict(sorted(found.items(), key=lambda each: -each[1])[:count])


class Matrix:
    """All vectors of one model in memory, brought up to date by what changed. 100,000 of them take 150 MB."""

    def __init__(self, model: str, dimensions: int) -> None:
        self._model, self._dimensions = model, dimensions
        self._places: dict[int, int] = {}
        self._ids = np.zeros(0, np.int64)
        self._rows: Floats = np.zeros((0, dimensions), np.float32)
        self._count = 0
        self._seq = 0

    def refresh(self, store: Store) -> None:
        """Take in what changed since the last time."""
        while found := changes(store, after=self._seq, model=self._model, count_max=_BATCH):
            for each in found:
                vector = each.vector if each.vector and len(each.vector) == 4 * self._dimensions else None
                place = self._places.get(each.id)
                if place is None and vector is not None:
                    place = self._place(each.id)
                if place is not None:
                    self._rows[place] = np.frombuffer(vector, "<f4") if vector else 0
            self._seq = found[-1].seq

    def nearest(self, vector: bytes, count: int) -> list[int]:
        """Return the ids of the nearest, best first."""
        scores = self._rows[: self._count] @ np.frombuffer(vector, "<f4")
        count = min(count, self._count)
        top = np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, np.int64)
        return [int(self._ids[place]) for place in top[np.argsort(-scores[top])]]

    def _place(self, id: int) -> int:
        if self._count == len(self._rows):
            more = max(1024, self._count // 2)
            self._rows = np.vstack([self._rows, np.zeros((more, self._dimensions), np.float32)])
            self._ids = np.concatenate([self._ids, np.zeros(more, np.int64)])
        place = self._places[id] = self._count
        self._ids[place] = id
        self._count += 1
        return place
