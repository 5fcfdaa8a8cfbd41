"""Memories for tests, short to write."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from orchestra.limits import MEMORY_NUMBER_MAX
from orchestra.memory import notebook, vectors
from orchestra.memory.chroma import chromadb_version
from orchestra.memory.embedder import Embedder
from orchestra.memory.endpoint import unit
from orchestra.memory.entry import Entry
from orchestra.memory.filters import Filters
from orchestra.memory.meaning import Semantics
from orchestra.memory.near import EXACT, Meaning, Near
from orchestra.memory.nearest import best, cosines
from orchestra.memory.question import words_of
from orchestra.memory.recall import Recalled, recall
from orchestra.memory.store import Store
from orchestra.memory.words import CATEGORIES, COMPONENTS, Confidence, Kind, Severity, Visibility

NOW = 1_800_000_000_000
DAY = 86_400_000
SAVE_S, RECALL_S = 0.1, 1.0  # that a save and a recall may take, whatever happens to the index
TRIES = 3  # of which one must be in time: a busy machine is late now and then, what waits for ChromaDB always


def learning(title: str = "Quote user text", **fields: Any) -> Entry:
    return Entry(
        **{"kind": "learning", "category": "insight", "confidence": "low", "project": "web", "title": title, **fields}
    )


def issue(title: str = "It hangs", **fields: Any) -> Entry:
    return Entry(
        **{"kind": "issue", "severity": "medium", "component": "other", "project": "web", "title": title, **fields}
    )


def session(title: str = "Worked", **fields: Any) -> Entry:
    return Entry(**{"kind": "session", "project": "web", "title": title, **fields})


def add(store: Store, *entries: Entry, now_ms: int = NOW) -> list[Entry]:
    return notebook.add(store, entries, now_ms=now_ms)


def ask(store: Store, question: str, *, count_max: int = 8, meaning: Meaning | None = None, **filters: Any) -> Recalled:
    return recall(store, question, Filters(**filters), count_max=count_max, meaning=meaning)


def by_words(name: str = "by-words", dimensions: int = 24) -> Embedder:
    """A model that takes no time: each word has a direction, drawn by chance from its letters."""

    def vector(text: str) -> bytes:
        total = [0.0] * dimensions
        for word in words_of(text) or ["nothing"]:
            chance = random.Random(f"{name} {word}")
            total = [each + chance.gauss(0, 1) for each in total]
        return unit(total)

    return Embedder(name, dimensions, lambda texts: [vector(text) for text in texts])


def embed_all(store: Store, embedder: Embedder) -> None:
    """Make all vectors that are missing."""
    while rows := vectors.waiting(store, count_max=64):
        entries = notebook.get(store, [row.id for row in rows])
        found = embedder.embed([vectors.text_of(entry) for entry in entries])
        vectors.keep(store, map(vectors.Made, rows, found), model=embedder.name)


def save_and_recall(semantics: Semantics) -> tuple[float, float]:
    """Save and recall as the commands do, each with a connection of its own; return the seconds that each took."""
    begun = time.monotonic()
    with Store(semantics.path) as store:
        (saved,) = add(store, learning(f"saved at {time.time_ns()}"))
        semantics.wake()
    between = time.monotonic()
    with Store(semantics.path) as store:
        assert ids(ask(store, saved.title, meaning=semantics))[0] == saved.id
    return between - begun, time.monotonic() - between


def assert_in_time(bring_about: Callable[[], object], tried: Callable[[], tuple[float, float]]) -> None:
    """Try in a fault that is brought about anew for each try, because the index heals by itself.

    Tests look at the clock here alone: that a broken index takes nobody's time is what is promised.
    """
    taken = []
    for _ in range(TRIES):
        bring_about()
        save_s, recall_s = tried()
        if save_s < SAVE_S and recall_s < RECALL_S:
            return
        taken.append(f"{save_s:.3f} s to save, {recall_s:.3f} s to recall")
    pytest.fail("; ".join(taken))


def needs_chromadb() -> None:
    """Skip a test where ChromaDB is not installed; without loading it, which takes a second."""
    if not chromadb_version():
        assert "TOX_ENV_NAME" not in os.environ, "tox installs it, and must not skip this"
        pytest.skip("chromadb is not installed")


@dataclass(frozen=True)
class Exact:
    """Answers what is near in meaning in this process, by the exact search."""

    store: Store
    embedder: Embedder

    def near(self, question: str, filters: Filters, *, among: list[int], count_max: int, within_s: float) -> Near:
        (vector,) = self.embedder.embed([question])
        found = cosines(vector, vectors.chosen(self.store, filters, model=self.embedder.name))
        return Near(best(found, count_max), EXACT, self.embedder.name)


@contextmanager
def temporary() -> Iterator[Store]:
    """Give an empty memory, for tests that need many."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "memory.db") as store:
        yield store


def ids(found: Recalled) -> list[int]:
    return [hit.entry.id for hit in found.hits]


def everything(store: Store) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return all rows, the validations without their own numbers."""
    validations = store.rows("SELECT memory, author, at_ms, note FROM validation ORDER BY memory, id")
    return store.rows("SELECT * FROM memory ORDER BY id"), validations


texts = st.text(max_size=60)
items = st.lists(st.text(max_size=30), max_size=4).map(tuple)
times = st.integers(0, MEMORY_NUMBER_MAX)
maybe_times = st.none() | times


def entries() -> st.SearchStrategy[Entry]:
    """Memories of every kind with anything in them, as a program might hand them over."""
    return st.builds(
        Entry,
        kind=st.sampled_from([each.value for each in Kind]),
        title=st.text(max_size=60).map(lambda text: f"t {text}"),
        body=texts,
        author=texts,
        source=texts,
        tags=items,
        visibility=st.sampled_from([each.value for each in Visibility]),
        project=texts,
        forgotten_ms=maybe_times,
        category=st.sampled_from(CATEGORIES),
        lesson=texts,
        prevention=texts,
        context=texts,
        confidence=st.sampled_from([each.value for each in Confidence]),
        severity=st.sampled_from([each.value for each in Severity]),
        component=st.sampled_from(COMPONENTS),
        repro=texts,
        fix=texts,
        link=texts,
        closed_ms=maybe_times,
        sender=texts,
        recipient=texts,
        thread=texts,
        read_ms=maybe_times,
        wins=items,
        challenges=items,
        learnings=items,
        next_steps=items,
        branch=texts,
        commits=items,
        files=items,
    )
