"""Are memories found by the questions that people ask? Texts and questions of our own, among distractors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.memory.store import Store

from .memories import add, ask, ids, learning

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


def _missed(store: Store, form: str, *, at: int) -> list[str]:
    """Return the questions whose note is not among the first `at` answers."""
    return [
        note[form]
        for number, note in enumerate(DATA["notes"], 1)
        if number not in ids(ask(store, note[form], count_max=at))
    ]


@pytest.mark.parametrize(("form", "at", "recall"), [("everyday", 5, 0.9), ("keyword", 5, 1.0), ("keyword", 1, 0.9)])
def test_full_text_search_alone_finds_what_was_asked_for(full: Store, form: str, at: int, recall: float) -> None:
    missed = _missed(full, form, at=at)
    assert len(missed) <= (1 - recall) * len(DATA["notes"]) + 1e-9, missed
