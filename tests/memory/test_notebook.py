from __future__ import annotations

import pytest

from orchestra.errors import BadOption, NotFound
from orchestra.memory import notebook
from orchestra.memory.store import Store

from .memories import NOW, add, ask, everything, ids, issue, learning, session


def test_ids_are_one_row_of_numbers_for_every_kind_and_none_comes_twice(store: Store) -> None:
    added = add(store, learning(), issue(), session())
    assert [entry.id for entry in added] == [1, 2, 3]
    assert len({entry.uid for entry in added}) == 3
    notebook.purge(store, [3])
    assert add(store, learning())[0].id == 4


def test_one_that_is_wrong_keeps_all_from_being_written(store: Store) -> None:
    with pytest.raises(BadOption):
        add(store, learning(), learning(category="cooking"))
    with pytest.raises(NotFound, match="#99"):
        add(store, learning(), learning(supersedes=99))
    assert store.rows("SELECT count(*) FROM memory") == [(0,)]


def test_validations_tell_who_and_when_and_raise_the_confidence(store: Store) -> None:
    add(store, learning())
    found = [
        notebook.validate(store, [1], author=author, note=author.upper(), now_ms=NOW + number)[0].confidence
        for number, author in enumerate(("ann", "bob", "cy", "di"))
    ]
    assert found == ["medium", "high", "high", "proven"]
    assert notebook.validations(store, 1)[:2] == [("ann", NOW, "ANN"), ("bob", NOW + 1, "BOB")]
    assert notebook.validation_counts(store, [1]) == {1: 4}


def test_a_learning_that_was_entered_as_sure_is_not_made_less_sure_by_a_validation(store: Store) -> None:
    add(store, learning(confidence="high"))
    assert notebook.validate(store, [1], author="me", now_ms=NOW)[0].confidence == "high"


def test_only_learnings_are_validated_and_nothing_happens_when_one_is_not(store: Store) -> None:
    add(store, learning(), issue())
    with pytest.raises(BadOption, match="#2 is a issue; only learnings"):
        notebook.validate(store, [1, 2], author="me", now_ms=NOW)
    with pytest.raises(NotFound, match="#3"):
        notebook.validate(store, [1, 3], author="me", now_ms=NOW)
    assert notebook.validation_counts(store, [1]) == {}
    assert notebook.get(store, [1])[0].confidence == "low"


def test_what_is_forgotten_is_not_found_until_it_is_remembered_again(store: Store) -> None:
    add(store, learning())
    before = everything(store)
    notebook.forget(store, [1], now_ms=NOW)
    assert ids(ask(store, "quote")) == []
    notebook.forget(store, [1], is_undone=True, now_ms=NOW)
    assert ids(ask(store, "quote")) == [1]
    assert everything(store) == before


def test_what_is_superseded_is_not_found_while_the_newer_one_is_there(store: Store) -> None:
    add(store, learning("Quote text with shlex"))
    add(store, learning("Quote text with pipes", supersedes=1))
    assert ids(ask(store, "quote")) == [2]
    notebook.forget(store, [2], now_ms=NOW)
    assert ids(ask(store, "quote")) == [1]


def test_an_issue_is_closed_once_and_says_how(store: Store) -> None:
    add(store, issue())
    assert notebook.close_issue(store, 1, fix="took the lock", now_ms=NOW).closed_ms == NOW
    again = notebook.close_issue(store, 1, now_ms=NOW + 5)
    assert (again.closed_ms, again.fix) == (NOW, "took the lock")
    add(store, learning())
    with pytest.raises(BadOption, match="not an issue"):
        notebook.close_issue(store, 2, now_ms=NOW)


def test_purging_takes_the_validations_along(store: Store) -> None:
    add(store, learning(), learning())
    notebook.validate(store, [1, 2], author="me", now_ms=NOW)
    assert notebook.purge(store, [1, 77]) == 1
    assert store.rows("SELECT memory FROM validation") == [(2,)]
    with pytest.raises(NotFound, match="#1"):
        notebook.get(store, [1])
