"""Learnings that say nearly the same, made one: proposed first, done only when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestra.limits import CONSOLIDATE_ROWS_MAX, MEMORY_ITEMS_MAX, MEMORY_TEXT_CHARS_MAX

from . import vectors
from .database import Database
from .entry import Entry
from .filters import Filters
from .fold import MERGE_AT, MERGE_AT_COSINE, likeness, numbers, refusals, words
from .models import Validation
from .notebook import rise, validation_counts
from .store import Store, update
from .words import Confidence, Kind

_BETWEEN: Final = "\n---\n"


@dataclass(frozen=True, slots=True)
class Merge:
    """A learning that stays, and those that say the same and would be forgotten."""

    kept: Entry
    others: tuple[Entry, ...]


def proposed(store: Store, filters: Filters, *, model: str = "") -> list[Merge]:
    """Return the merges among the newest learnings of the same project, also by the vectors of `model`."""
    where, params = filters.where()
    found = store.entries(
        f"WHERE {where} AND m.kind = ? ORDER BY m.created_ms DESC, m.id DESC LIMIT ?",
        *params,
        Kind.LEARNING,
        CONSOLIDATE_ROWS_MAX,
    )
    counts = validation_counts(store, (entry.id for entry in found))
    order = list(Confidence)
    found.sort(key=lambda entry: (-order.index(Confidence(entry.confidence)), -counts.get(entry.id, 0), entry.id))
    made = vectors.of(store, (entry.id for entry in found), model=model)
    groups: list[tuple[Entry, frozenset[str], list[Entry]]] = []
    for entry in found:
        mine = words(entry)
        near = _near(entry.id, [kept.id for kept, _, _ in groups], made)
        for kept, theirs, others in groups:
            if (
                (kept.project, kept.visibility) == (entry.project, entry.visibility)
                and refusals(mine) == refusals(theirs)
                and (likeness(mine, theirs) >= MERGE_AT or (kept.id in near and numbers(mine) == numbers(theirs)))
            ):
                others.append(entry)
                break
        else:
            groups.append((entry, mine, []))
    return [Merge(kept, tuple(others)) for kept, _, others in groups if others]


def consolidate(store: Store, merges: list[Merge], *, now_ms: int) -> None:
    """Do the merges: the one that stays takes over the texts, tags and validations; the others are forgotten."""

    def work(database: Database) -> None:
        for merge in merges:
            _merge(database, merge, now_ms=now_ms)

    if merges:
        store.write(work)


def _near(id: int, kept: list[int], made: Mapping[int, bytes]) -> set[int]:
    """Return which of those that are kept mean nearly the same, as far as they have vectors."""
    if id not in made:
        return set()
    from .nearest import cosines  # here, because who has no vectors may have no numpy

    found = cosines(made[id], [(other, made[other]) for other in kept if other in made])
    return {other for other, cosine in found.items() if cosine >= MERGE_AT_COSINE}


def _merge(database: Database, merge: Merge, *, now_ms: int) -> None:
    everyone = (merge.kept, *merge.others)
    body = _BETWEEN.join(dict.fromkeys(entry.body for entry in everyone if entry.body))
    tags = list(dict.fromkeys(tag for entry in everyone for tag in entry.tags))
    values = {"tags": "\n".join(tags)} if len(tags) <= MEMORY_ITEMS_MAX else {}
    if len(body) <= MEMORY_TEXT_CHARS_MAX:
        values["body"] = body
    for name in ("lesson", "prevention", "context"):
        values[name] = next((text for entry in everyone if (text := getattr(entry, name))), "")
    update(database, merge.kept.id, **values)
    for other in merge.others:
        Validation.update(memory=merge.kept.id).where(Validation.memory == other.id).execute(database)
        update(database, other.id, forgotten_ms=now_ms, updated_ms=now_ms)
    rise(database, merge.kept.id, now_ms=now_ms)
