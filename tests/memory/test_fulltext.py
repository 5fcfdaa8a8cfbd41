"""A damaged full-text index: no save fails, everything is still found, and one command makes it well."""

from __future__ import annotations

import pytest

from orchestra.memory import fulltext, repair
from orchestra.memory.fulltext import COLUMNS
from orchestra.memory.notebook import forget, purge
from orchestra.memory.recall import FULL_TEXT, ROW_BY_ROW
from orchestra.memory.store import Store, update

from .memories import NOW, add, ask, ids, learning, session

DAMAGE = [
    "UPDATE memory_fts_data SET block = zeroblob(8)",
    "DELETE FROM memory_fts_data",
    "DELETE FROM memory_fts_data WHERE id > 10",
    "DROP TABLE memory_fts_data",
    "DROP TABLE memory_fts_idx",
    "DROP TABLE memory_fts_docsize",
    "DELETE FROM memory_fts_config",
    "DROP TABLE memory_fts_config",
]


@pytest.fixture
def damaged(store: Store, request: pytest.FixtureRequest) -> Store:
    add(store, *(learning(f"The hub hangs on start {number}", body=f"word{number}") for number in range(50)))
    store.write(lambda database: database.all(request.param))
    store.disconnect()  # SQLite keeps parts of the index in memory
    return store


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_save_succeeds_and_is_found(damaged: Store) -> None:
    (entry,) = add(damaged, learning("Penguins can swim"))
    assert ids(ask(damaged, "swim")) == [entry.id]


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_change_and_a_removal_succeed(damaged: Store) -> None:
    damaged.write(lambda database: update(database, 7, title="Renamed"))
    assert purge(damaged, [8]) == 1
    forget(damaged, [9], now_ms=NOW)
    assert [entry.title for entry in damaged.entries("WHERE m.id IN (7, 8)")] == ["Renamed"]
    assert ids(ask(damaged, "renamed")) == [7]


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_what_was_saved_before_is_found(damaged: Store) -> None:
    assert ids(ask(damaged, "word33")) == [34]


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_the_check_sees_it_and_reindex_makes_it_well(damaged: Store) -> None:
    findings = repair.check(damaged)
    assert [each.is_well for each in findings] == [True, False], findings
    assert findings[1].advice == "orchestra memory reindex"
    assert repair.reindex(damaged) == 50
    assert all(each.is_well for each in repair.check(damaged))
    found = ask(damaged, "word33")
    assert (ids(found), found.sources) == ([34], (FULL_TEXT,))
    add(damaged, learning("Penguins can swim"))
    assert fulltext.is_on(damaged.database)
    assert ids(ask(damaged, "swimming")) == [51]


def test_an_answer_without_the_index_says_so(store: Store) -> None:
    add(store, learning("The hub hangs"))
    store.write(fulltext.take_off)
    found = ask(store, "hub")
    assert (ids(found), found.sources) == ([1], (ROW_BY_ROW,))
    assert "run: orchestra memory reindex" in found.notes[0]


def test_a_fault_of_the_save_itself_keeps_the_index(store: Store) -> None:
    add(store, learning())

    def broken(database: object) -> None:
        store.database.all("INSERT INTO memory (uid) VALUES ('x')")

    with pytest.raises(Exception, match="NOT NULL"):
        store.write(broken)
    assert fulltext.is_on(store.database)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_of_the_index_is_searched(store: Store, name: str) -> None:
    add(store, session("Worked"))
    store.write(lambda database: update(database, 1, **{name: "quokka"}))
    assert ids(ask(store, "quokka")) == [1]
    store.write(lambda database: update(database, 1, **{name: "wombat"}))
    assert ids(ask(store, "quokka")) == []
