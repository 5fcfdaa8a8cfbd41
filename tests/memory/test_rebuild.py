"""`reindex`: everything anew while somebody watches, honest about what is missing, and gone on with after Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.errors import RowRefused
from orchestra.memory import embedder as embedder_module
from orchestra.memory import index, rebuild, vectors
from orchestra.memory.embedder import Choice, Embedder
from orchestra.memory.indexplace import IndexPlace
from orchestra.memory.rebuild import Rebuilt
from orchestra.memory.store import Store

from ..system.programs import BOUND_S
from .memories import add, by_words, learning, needs_chromadb

pytestmark = pytest.mark.timeout(4 * BOUND_S)
CHOICE = Choice(embed="ollama:by-words")


def _quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> dict[str, Embedder]:
    """Let the settings lead to a model of the test's own."""
    used = {"now": by_words("ollama:by-words")}
    monkeypatch.setattr(rebuild, "embedder_of", lambda choice: used["now"])
    assert embedder_module.plan_of(CHOICE).name == "ollama:by-words"
    return used


@pytest.mark.usefixtures("model")
def test_it_makes_vectors_and_index_searches_all_of_them_and_tells_how_far_it_is(store: Store) -> None:
    needs_chromadb()
    add(store, *(learning(f"word{number}") for number in range(40)))
    told: list[tuple[str, int, int]] = []
    made = rebuild.rebuild(store, CHOICE, is_anew=False, told=lambda *each: told.append(each))
    assert made == Rebuilt("ollama:by-words", vectors=40, indexed=40, checked=40)
    assert told[0] == ("vectors", 0, 40)
    assert [each for each in told if each[0] == "vectors"][-1] == ("vectors", 40, 40)
    assert [each for each in told if each[0] == "index"][-1] == ("index", 40, 40)
    assert told[-1] == ("check", 1, 1)


@pytest.mark.usefixtures("model")
def test_an_interrupted_one_is_gone_on_with(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_chromadb()
    monkeypatch.setattr(index, "INDEX_ROWS", 10)
    add(store, *(learning(f"word{number}") for number in range(40)))

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "index" and done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild.rebuild(store, CHOICE, is_anew=False, told=interrupt)
    assert vectors.count_waiting(store) == 0
    told: list[tuple[str, int, int]] = []
    made = rebuild.rebuild(store, CHOICE, is_anew=False, told=lambda *each: told.append(each))
    assert (made.checked, made.is_wrong) == (40, False)
    assert min(done for what, done, _ in told if what == "index") > 20
    assert not IndexPlace(store.path).begun.exists()


def test_what_has_no_vector_is_named_and_the_others_are_made(store: Store, model: dict[str, Embedder]) -> None:
    whole = model["now"]

    def picky(texts: list[str]) -> list[bytes]:
        if any("odd" in text for text in texts):
            raise RowRefused("too odd")
        return whole.embed(texts)

    add(store, learning("one"), learning("odd"))
    model["now"] = Embedder(whole.name, 24, picky)
    made = rebuild.rebuild(store, CHOICE, is_anew=False, told=_quiet)
    assert (made.vectors, made.failed, made.is_wrong) == (1, [{"id": 2, "error": "too odd"}], True)
    model["now"] = whole
    made = rebuild.rebuild(store, CHOICE, is_anew=False, told=_quiet)
    assert (made.vectors, made.failed, made.is_wrong) == (2, [], False)


def test_anew_makes_every_vector_again_also_of_another_length(store: Store, model: dict[str, Embedder]) -> None:
    add(store, learning("one"))
    rebuild.rebuild(store, CHOICE, is_anew=False, told=_quiet)
    model["now"] = Embedder("ollama:by-words", 16, by_words("other", 16).embed)
    made = rebuild.rebuild(store, CHOICE, is_anew=True, told=_quiet)
    assert (made.vectors, made.is_wrong) == (1, False)
    assert vectors.dimensions(store, model="ollama:by-words") == 16


@pytest.mark.usefixtures("model")
def test_an_index_that_can_not_be_made_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_chromadb()
    package = tmp_path / "broken" / "chromadb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no such library')")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    add(store, learning("one"))
    made = rebuild.rebuild(store, CHOICE, is_anew=False, told=_quiet)
    assert made.is_wrong
    assert "no such library" in made.reason


def test_without_a_model_it_says_so_and_nothing_is_wrong(store: Store) -> None:
    add(store, learning("one"))
    made = rebuild.rebuild(store, Choice(embed="none"), is_anew=False, told=_quiet)
    assert (made.is_wrong, made.reason) == (False, "switched off by --embed none")
