"""Memories that say nearly the same: how alike two are, and one instead of many in a list. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from operator import mul
from typing import Final

from .entry import Entry
from .question import words_of

FOLD_AT: Final = 0.85  # of the words of both: two that differ by a number or a name in ten words stay two
FOLD_AT_COSINE: Final = 0.97  # of their vectors: the same in other words, where no number differs
MERGE_AT, MERGE_AT_COSINE = 0.7, 0.9  # what is proposed to a person, who decides, may be less alike
_REFUSALS: Final = frozenset({"not", "never", "cannot", "t"})


def words(entry: Entry) -> frozenset[str]:
    """Return the words by which a memory is compared."""
    return frozenset(words_of(entry.text()))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Return which part of the words of both is in each: 1 for the same words, 0 for none (Jaccard's index)."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0


def fold(
    entries: Iterable[Entry], *, count_max: int, vectors: Mapping[int, bytes]
) -> list[tuple[Entry, tuple[int, ...]]]:
    """Return the first so many that differ, each with the ids of those further down that say nearly the same.

    `vectors` (of length 1, float32) also find those that say it in other words.
    """
    kept: list[tuple[Entry, frozenset[str], list[int]]] = []
    for entry in entries:
        mine = words(entry)
        for better, theirs, also in kept:
            if better.kind == entry.kind and (
                likeness(mine, theirs) >= FOLD_AT
                or (
                    _cosine(vectors.get(entry.id), vectors.get(better.id)) >= FOLD_AT_COSINE
                    and numbers(mine) == numbers(theirs)
                )
            ):
                also.append(entry.id)
                break
        else:
            if len(kept) < count_max:
                kept.append((entry, mine, []))
    return [(entry, tuple(also)) for entry, _, also in kept]


def refusals(found: frozenset[str]) -> frozenset[str]:
    """Return the words that turn a sentence round, as far as they are always meant so ("don't" is cut into two)."""
    return found & _REFUSALS


def numbers(found: frozenset[str]) -> frozenset[str]:
    """Return the words with a digit: to a model "after 5 s" and "after 50 s" mean nearly the same."""
    return frozenset(word for word in found if any(char.isdigit() for char in word))


def _cosine(one: bytes | None, other: bytes | None) -> float:
    if one is None or other is None or len(one) != len(other):
        return 0.0
    return float(sum(map(mul, array("f", one), array("f", other))))
