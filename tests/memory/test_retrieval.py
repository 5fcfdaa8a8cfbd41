"""Are memories found by the questions that people ask? Texts and questions of our own, among distractors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.memory.embedder import Choice, Embedder, embedder_of
from orchestra.memory.filters import Filters
from orchestra.memory.near import Meaning
from orchestra.memory.question import any_of, terms_of
from orchestra.memory.store import Store

from .memories import Exact, add, ask, embed_all, ids, learning

DATA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "retrieval.json").read_text(encoding="utf-8"))


def _distractors() -> Iterator[str]:
    parts = DATA["distractors"]
    for subject in parts["subjects"]:
        for number, happening in enumerate(parts["happenings"]):
            for ending in parts["endings"]:
                yield f"{subject} {happening} {ending} Note {number}."


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("retrieval") / "memory.db") as store:
        add(store, *(learning(note["title"], body=note["body"]) for note in DATA["notes"]))
        add(store, *(learning(text) for text in _distractors()))
        yield store


def _missed(store: Store, form: str, *, at: int, meaning: Meaning | None = None) -> list[str]:
    """Return the questions whose note is not among the first `at` answers."""
    return [
        note[form]
        for number, note in enumerate(DATA["notes"], 1)
        if number not in ids(ask(store, note[form], count_max=at, meaning=meaning))
    ]


@pytest.fixture(scope="module")
def understood(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Exact]:
    """A memory with vectors, and fewer distractors, because each takes time; each text is read once."""
    embedder = embedder_of(Choice(models=models))
    assert embedder is not None
    known: dict[str, bytes] = {}

    def embed(texts: list[str]) -> list[bytes]:
        return [known.get(text) or known.setdefault(text, embedder.embed([text])[0]) for text in texts]

    with Store(tmp_path_factory.mktemp("understood") / "memory.db") as store:
        add(store, *(learning(note["title"], body=note["body"]) for note in DATA["notes"]))
        add(store, *(learning(text) for text in list(_distractors())[::4]))
        found = Exact(store, Embedder(embedder.name, embedder.dimensions, embed))
        embed_all(store, found.embedder)
        yield found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("at", [1, 5])
def test_both_sources_together_find_at_least_what_the_better_one_finds(understood: Exact, at: int) -> None:
    missed: dict[str, int] = {"words": 0, "meaning": 0, "both": 0}
    for form in ("everyday", "keyword", "paraphrase"):
        missed["words"] += len(_missed(understood.store, form, at=at))
        missed["both"] += len(_missed(understood.store, form, at=at, meaning=understood))
        for number, note in enumerate(DATA["notes"], 1):
            near = understood.near(note[form], Filters(), among=[], count_max=at, within_s=1)
            missed["meaning"] += number not in near.cosines
    assert missed["both"] <= min(missed["words"], missed["meaning"]), missed
    assert missed["both"] <= 0.15 * 3 * len(DATA["notes"]), missed


def test_no_word_of_a_paraphrase_is_in_its_note(full: Store) -> None:
    for number, note in enumerate(DATA["notes"], 1):
        query = any_of(terms_of(note["paraphrase"]))
        found = full.rows("SELECT rowid FROM memory_fts WHERE memory_fts MATCH ? AND rowid = ?", query, number)
        assert found == [], note["paraphrase"]


@pytest.mark.parametrize("question", ["how to bake sourdough bread", "the weather in Paris tomorrow"])
def test_what_has_nothing_to_do_with_anything_finds_nothing(understood: Exact, question: str) -> None:
    assert [hit.entry.title for hit in ask(understood.store, question, meaning=understood).hits] == []


@pytest.mark.parametrize(("form", "at", "recall"), [("everyday", 5, 0.9), ("keyword", 5, 1.0), ("keyword", 1, 0.9)])
def test_full_text_search_alone_finds_what_was_asked_for(full: Store, form: str, at: int, recall: float) -> None:
    missed = _missed(full, form, at=at)
    assert len(missed) <= (1 - recall) * len(DATA["notes"]) + 1e-9, missed
