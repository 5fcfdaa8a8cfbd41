"""Memories for tests, short to write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from orchestra.limits import MEMORY_NUMBER_MAX
from orchestra.memory import notebook
from orchestra.memory.entry import Entry
from orchestra.memory.recall import Filters, Recalled, recall
from orchestra.memory.store import Store
from orchestra.memory.words import CATEGORIES, COMPONENTS, Confidence, Kind, Severity, Visibility

NOW = 1_800_000_000_000
DAY = 86_400_000


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


def ask(store: Store, question: str, *, count_max: int = 8, **filters: Any) -> Recalled:
    return recall(store, question, Filters(**filters), count_max=count_max)


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
