"""Two answers as one: how far a memory has the words of a question, and how near its meaning is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

WEIGHT: Final = 1.25
"""Of the square of coverage beside the cosine. Squared, because a few accidental words say nothing and most of the
words say nearly all: in proportion they came before the meaning (bench/README.md has the figures). From 1 to 2 the
weight makes hardly a difference. Ranks alone (RRF) lose how weak an accidental word is, and were worse than the
better source."""
FLOOR: Final = 0.2
"""The cosine below which a memory that shares no word with the question is no answer: what has nothing to do
with a question has 0.0 to 0.2 with all-MiniLM-L6-v2."""


def fuse(coverage: Mapping[int, float], cosines: Mapping[int, float], fresh: Set[int]) -> dict[int, float]:
    """Return ids with their scores from 0 to 1, best first; the newer first where they are equal.

    A fresh memory has no vector yet: it takes its coverage for its cosine, so that it competes.
    """
    found: dict[int, float] = {}
    for id in coverage.keys() | cosines.keys():
        words = coverage.get(id, 0.0)
        near = words if id in fresh else max(0.0, cosines.get(id, 0.0))
        if words or near >= FLOOR:
            found[id] = min(1.0, (near + WEIGHT * words**2) / (1 + WEIGHT))
    return dict(sorted(found.items(), key=lambda each: (-each[1], -each[0])))
