"""Finding memories again: by number, by session, by what is open, and by the words of a question.

Each way of searching is a *source* that gives ids with a score from 0 to 1. Full-text search is one; the row-by-row
search stands in for it when its index is damaged, and for words that it can't cut (parts of words, and languages
written without spaces). Meaning is the other, where there is a model; both are weighed together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from peewee import PeeweeException

from orchestra.errors import MemoryDamaged, StorageFault
from orchestra.limits import RECALL_CANDIDATES, RECALL_MEANING_S, RECALL_ROWS_MAX

from . import fulltext, vectors
from .entry import Entry
from .filters import Filters
from .fold import fold
from .fuse import fuse
from .near import Meaning, Near
from .question import Aim, any_of, question_of, terms_of
from .store import Store
from .words import Confidence, Kind, Severity

FULL_TEXT: Final = "full-text"
ROW_BY_ROW: Final = "row by row"
MEANING: Final = "meaning"
_REPAIR: Final = "the full-text index is damaged, so the rows were searched one by one; run: orchestra memory reindex"

_WEIGHTS: Final = {"title": 3.0, "tags": 2.0}  # a word of the title says more of what a memory is about
_BM25: Final = f"bm25(memory_fts, {', '.join(str(_WEIGHTS.get(name, 1.0)) for name in fulltext.COLUMNS)})"
# One call: `a || b || …` copies the text once for each column, which takes twice as long.
_ALL_WORDS: Final = f"printf('{'%s ' * len(fulltext.COLUMNS)}', {', '.join(f'm.{name}' for name in fulltext.COLUMNS)})"
_COMMON_FROM: Final = 1000  # rows; in a smaller memory a word that most rows have is still worth a search
_K1: Final = 1.2  # of FTS5's BM25: no term adds more than its rarity times (k1 + 1)
_HALF: Final = 0.5
_FOLDED: Final = 24  # best answers whose vectors are compared, each with each: about 7 ms
_OPEN_ISSUES_SHOWN: Final = 10
_LEARNINGS_SHOWN: Final = 5
_MESSAGES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that was found. `score`: how much of the question it answers, 0 to 1. `also`: ids that say the same."""

    entry: Entry
    score: float
    also: tuple[int, ...] = ()
    is_fresh: bool = False
    """It has no vector yet, so only its words were compared."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """An answer. `sources` names those that gave it; `notes` are sentences for the person."""

    aim: Aim
    hits: list[Hit] = field(default_factory=list)
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    near: Near = field(default_factory=Near)
    waiting: int = 0
    """How many memories have no vector yet, where meaning was asked for."""


@dataclass(frozen=True, slots=True)
class Open:
    """Where one left off: the last session, and what waits."""

    session: Entry | None
    issues: list[Entry]
    messages: list[Entry]
    learnings: list[Entry]


def recall(store: Store, text: str, filters: Filters, *, count_max: int, meaning: Meaning | None = None) -> Recalled:
    """Answer a question that is not empty; best first. Without `meaning` only its words count."""
    question = question_of(text)
    if question.aim is Aim.ID:
        return Recalled(question.aim, [Hit(entry, 1.0) for entry in store.entries("WHERE m.id = ?", question.id)])
    if question.aim is Aim.SESSION:
        named = store.entries(
            "WHERE m.kind = ? AND (m.id = ? OR m.source = ?)", Kind.SESSION, question.id, question.text
        )
        return Recalled(question.aim, [Hit(entry, 1.0) for entry in named[:1]])
    return _search(store, question.text, filters, count_max, meaning)


def what_is_open(store: Store, filters: Filters) -> Open:
    """Return the last session of the project, with its open issues, unread messages and best learnings."""

    def found(
        kind: Kind, more: str, count: int, *values: Any, order: str = "m.created_ms DESC, m.id DESC"
    ) -> list[Entry]:
        where, params = replace(filters, kind=kind).where()
        return store.entries(f"WHERE {where} AND {more} ORDER BY {order} LIMIT ?", *params, *values, count)

    sessions = found(Kind.SESSION, "1", 1)
    by_severity = "CASE m.severity " + " ".join(f"WHEN '{each}' THEN {n}" for n, each in enumerate(Severity)) + " END"
    return Open(
        session=sessions[0] if sessions else None,
        issues=found(Kind.ISSUE, "m.closed_ms IS NULL", _OPEN_ISSUES_SHOWN, order=f"{by_severity}, m.created_ms DESC"),
        messages=found(Kind.MESSAGE, "m.read_ms IS NULL", _MESSAGES_SHOWN),
        learnings=found(
            Kind.LEARNING, "m.confidence IN (?, ?)", _LEARNINGS_SHOWN, Confidence.PROVEN, Confidence.HIGH,
            order="m.confidence = 'proven' DESC, m.updated_ms DESC",
        ),
    )  # fmt: skip


def _search(store: Store, question: str, filters: Filters, count_max: int, meaning: Meaning | None) -> Recalled:
    deadline = time.monotonic() + RECALL_MEANING_S
    notes: tuple[str, ...] = ()
    terms = terms_of(question)
    try:
        coverage = _by_full_text(store, terms, filters, count_max)
        sources: tuple[str, ...] = (FULL_TEXT,)
    except MemoryDamaged:
        raise
    except StorageFault:
        coverage, sources, notes = {}, (), (_REPAIR,)
    if not coverage:
        coverage = _row_by_row(store, terms or [question.lower()], filters)
        sources = (*sources, ROW_BY_ROW)
        if store.rows("SELECT count(*) FROM memory")[0][0] > RECALL_ROWS_MAX:
            notes = (*notes, f"row by row only the newest {RECALL_ROWS_MAX:,} memories were searched")
    near = Near()
    if meaning is not None:
        left_s = max(0.0, deadline - time.monotonic())
        near = meaning.near(question, filters, among=list(coverage), count_max=RECALL_CANDIDATES, within_s=left_s)
    hits = _hits(store, coverage, near, count_max, is_row_by_row=ROW_BY_ROW in sources)
    if near.by:
        sources = (*sources, MEANING)
    if not hits and filters.project is not None:
        elsewhere = _search(store, question, replace(filters, project=None), 1, None)
        if elsewhere.hits:
            notes = (*notes, "other projects of this memory have something: ask again with --all")
    return Recalled(Aim.SEARCH, hits, sources, notes, near, vectors.count_waiting(store) if near.by else 0)


def _hits(store: Store, coverage: dict[int, float], near: Near, count_max: int, *, is_row_by_row: bool) -> list[Hit]:
    """Put both answers together, and make one hit of those that say nearly the same."""
    if not near.by:
        scores, fresh = coverage, set()
    else:
        if is_row_by_row:  # a part of one word in another is hardly a sign where there is a better one
            coverage = {id: share for id, share in coverage.items() if share >= _HALF}
        fresh = vectors.fresh(store, coverage)
        scores = dict(list(fuse(coverage, near.cosines, fresh).items())[:RECALL_CANDIDATES])
    entries = {entry.id: entry for entry in _entries(store, scores)}
    # What was removed since the vectors were searched is not there any more.
    found = [entries[id] for id in scores if id in entries]
    best = [entry.id for entry in found[:_FOLDED]]
    folded = fold(found, count_max=count_max, vectors=vectors.of(store, best, model=near.model) if near.by else {})
    return [Hit(entry, scores[entry.id], also, entry.id in fresh) for entry, also in folded]


def _by_full_text(store: Store, terms: list[str], filters: Filters, count_max: int) -> dict[int, float]:
    """Return what full-text search finds: whole words first, then words that begin alike where those are too few.

    Raises:
        StorageFault: if the index is off or damaged.
    """
    try:
        if not fulltext.is_on(store.database):
            raise StorageFault(_REPAIR)
        (rows,) = store.database.all("SELECT count(*) FROM memory")[0]
        counts = {term: _rows_with(store, term) for term in terms}
        best = _best_score(rows, counts)
        found = _matching(store, any_of(_telling(rows, counts)), filters, best)
        if len(found) < count_max and (query := any_of(terms, is_prefix=True)):
            least = min(found.values(), default=1.0)
            more = _matching(store, query, filters, best)
            found |= {id: min(score, least) for id, score in more.items() if id not in found}
    except PeeweeException as exc:
        raise StorageFault(_REPAIR) from exc
    return found


def _matching(store: Store, query: str, filters: Filters, best: float) -> dict[int, float]:
    if not query:
        return {}
    where, values = filters.where()
    ranked = store.database.all(
        f"SELECT m.id, {_BM25} AS rank FROM memory_fts JOIN memory m ON m.id = memory_fts.rowid "
        f"WHERE memory_fts MATCH ? AND {where} ORDER BY rank, m.id DESC LIMIT {RECALL_CANDIDATES}",
        query,
        *values,
    )
    return {id: min(1.0, max(0.0, -rank / best)) for id, rank in ranked}


def _rows_with(store: Store, term: str) -> int:
    (count,) = store.database.all("SELECT count(*) FROM memory_fts WHERE memory_fts MATCH ?", f'"{term}"')[0]
    return int(count)


def _telling(rows: int, counts: dict[str, int]) -> list[str]:
    """Leave out the terms that most rows have: BM25 gives them no weight, and ranking so many rows takes long."""
    telling = [term for term, count in counts.items() if rows < _COMMON_FROM or 0 < 2 * count < rows]
    return telling or list(counts)


def _best_score(rows: int, counts: dict[str, int]) -> float:
    """Return what BM25 could give at most for these terms (Robertson and Zaragoza 2009, §3.3): the score's 1."""
    rarity = (math.log((rows - count + 0.5) / (count + 0.5)) for count in counts.values())
    return sum((_K1 + 1) * max(1e-6, each) for each in rarity) or 1.0


def _row_by_row(store: Store, terms: list[str], filters: Filters) -> dict[int, float]:
    """Return the memories that hold any of the terms, also inside a word; those with the most of them first.

    Of a large memory only the newest RECALL_ROWS_MAX are looked at.
    """
    where, values = filters.where()
    held = " + ".join(["(instr(words, ?) > 0)"] * len(terms))
    rows = store.rows(
        f"WITH looked_at AS MATERIALIZED (SELECT m.id AS id, lower({_ALL_WORDS}) AS words FROM memory m WHERE {where} "
        f"ORDER BY m.id DESC LIMIT {RECALL_ROWS_MAX}), "
        f"counted AS MATERIALIZED (SELECT id, {held} AS held FROM looked_at) "
        f"SELECT id, held FROM counted WHERE held > 0 ORDER BY held DESC, id DESC LIMIT {RECALL_CANDIDATES}",
        *values,
        *terms,
    )
    return {id: count / len(terms) for id, count in rows}


def _entries(store: Store, ids: Iterable[int]) -> list[Entry]:
    wanted = list(ids)
    return store.entries(f"WHERE m.id IN ({', '.join('?' * len(wanted))})", *wanted)
