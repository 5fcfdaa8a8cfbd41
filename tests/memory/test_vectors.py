"""Vectors beside the memories: which are missing, which changed, and that those of two models never meet."""

from __future__ import annotations

from orchestra.memory import notebook, vectors
from orchestra.memory.filters import Filters
from orchestra.memory.nearest import Matrix
from orchestra.memory.store import Store, update
from orchestra.memory.vectors import Made

from .memories import NOW, add, by_words, embed_all, learning

MODEL = by_words()
NAME = MODEL.name


def _waiting(store: Store) -> list[int]:
    return [row.id for row in vectors.waiting(store, count_max=99)]


def _current(store: Store, name: str = NAME) -> list[int]:
    return sorted(id for id, _ in vectors.chosen(store, Filters(), model=name))


def test_whoever_writes_a_memory_it_waits_for_its_vector(store: Store) -> None:
    add(store, learning("one"), learning("two"))
    assert _waiting(store) == [1, 2]
    embed_all(store, MODEL)
    assert (_waiting(store), _current(store)) == ([], [1, 2])
    store.write(lambda database: database.all("UPDATE memory SET title = 'three' WHERE id = 1"))
    assert _waiting(store) == [1]
    assert _current(store) == [2], "the old vector is not of the present text"


def test_what_says_nothing_else_needs_no_new_vector(store: Store) -> None:
    add(store, learning("one"))
    embed_all(store, MODEL)
    notebook.validate(store, [1], author="me", now_ms=NOW)
    assert _waiting(store) == []


def test_a_memory_that_changes_while_its_vector_is_made_goes_on_waiting(store: Store) -> None:
    add(store, learning("one"), learning("two"))
    rows = vectors.waiting(store, count_max=9)
    store.write(lambda database: update(database, 1, title="three"))
    notebook.purge(store, [2])
    vectors.keep(store, [Made(row, MODEL.embed(["x"])[0]) for row in rows], model=NAME)
    assert (_waiting(store), _current(store)) == ([1], [])


def test_changes_have_numbers_that_only_grow_and_what_is_gone_is_one(store: Store) -> None:
    add(store, learning("one"), learning("two"))
    embed_all(store, MODEL)
    seen = vectors.changes(store, after=0, model=NAME, count_max=9)
    assert [each.id for each in seen] == [1, 2]
    store.write(lambda database: update(database, 1, title="three"))
    embed_all(store, MODEL)
    notebook.purge(store, [2])
    more = vectors.changes(store, after=seen[-1].seq, model=NAME, count_max=9)
    assert [(each.id, each.vector is None) for each in more] == [(1, False), (2, True)]


def test_another_model_lets_all_of_them_wait_and_never_meets_the_old_vectors(store: Store) -> None:
    add(store, learning("one"), learning("two"))
    embed_all(store, MODEL)
    assert vectors.mark_others(store, model=NAME) == 0
    assert vectors.mark_others(store, model="other") == 2
    assert (_current(store, "other"), _current(store, NAME)) == ([], [])
    (row, _) = vectors.waiting(store, count_max=9)
    vectors.keep(store, [Made(row, by_words("other").embed(["x"])[0])], model="other")
    assert (_current(store, "other"), _current(store, NAME)) == ([1], [])
    assert [each.id for each in vectors.changes(store, after=0, model="other", count_max=9)] == [1]
    assert vectors.of(store, [1, 2], model=NAME) == {}


def test_a_row_that_is_refused_too_often_is_left_alone_and_named_until_it_changes(store: Store) -> None:
    add(store, learning("one"), learning("two"))
    for _ in range(vectors.EMBED_TRIES_MAX):
        (row, *_) = [each for each in vectors.waiting(store, count_max=9) if each.id == 1]
        vectors.refuse(store, [row], "too odd")
    assert _waiting(store) == [2]
    assert vectors.facts(store)["failing"] == [{"id": 1, "error": "too odd"}]
    store.write(lambda database: update(database, 1, title="three"))
    assert _waiting(store) == [1, 2]


def test_the_matrix_in_memory_follows_what_changes(store: Store) -> None:
    matrix = Matrix(NAME, MODEL.dimensions)
    add(store, learning("hub socket"), learning("queue worker"), learning("clock race"))
    embed_all(store, MODEL)
    matrix.refresh(store)
    (asked,) = MODEL.embed(["queue worker"])
    assert matrix.nearest(asked, 1) == [2]
    notebook.purge(store, [2])
    store.write(lambda database: update(database, 3, title="queue worker"))
    embed_all(store, MODEL)
    matrix.refresh(store)
    assert matrix.nearest(asked, 1) == [3]
    assert set(matrix.nearest(asked, 99)) >= {1, 3}


def test_a_memory_of_the_first_release_waits_for_its_vectors(store: Store) -> None:
    assert vectors.mark_others(store, model=NAME) == 0
    add(store, learning("one"))
    store.write(lambda database: database.all("DELETE FROM to_embed"))
    assert vectors.mark_others(store, model=NAME) == 1
