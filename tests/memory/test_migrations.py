"""From an empty file, or that of any earlier release, to today's tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from orchestra.errors import StateFault, StorageFault
from orchestra.memory import migrations, models
from orchestra.memory.entry import COLUMNS
from orchestra.memory.store import Store

from .memories import add, ask, ids, learning

DATA = Path(__file__).parents[1] / "data"
VERSIONS = range(1, len(migrations.STEPS) + 1)


def _schema(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: " ".join(sql.split()) for name, sql in found}


def _earlier(path: Path, version: int) -> None:
    """Make the file as the release that had this version made it: from SQL that is never edited."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript((DATA / f"memory-v{version}.sql").read_text(encoding="utf-8"))
    connection.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_any_earlier_file_comes_to_todays_schema_with_its_memories(path: Path, tmp_path: Path, version: int) -> None:
    _earlier(path, version)
    with Store(path) as store:
        assert [entry.title for entry in store.entries("ORDER BY m.id")] == ["Quote user text", "It hangs", "Worked"]
        assert ids(ask(store, "quote")) == [1]
        assert ids(ask(store, "worked")) == [3]
        add(store, learning("A new one about quotes"))
        assert set(ids(ask(store, "quotes"))) == {1, 4}
    with Store(tmp_path / "fresh.db") as fresh:
        add(fresh, learning())
    assert _schema(path) == _schema(tmp_path / "fresh.db")


def test_the_models_have_the_columns_of_the_tables_in_their_order(store: Store) -> None:
    add(store, learning())
    for model in models.TABLES:
        table = model._meta.table_name
        columns = [(row[1], row[2], bool(row[3])) for row in store.rows(f"PRAGMA table_info({table})")]
        kinds = {"INT": "INTEGER", "TEXT": "TEXT", "AUTO": "INTEGER"}
        wanted = [
            (name, kinds[field.field_type], not field.null and name != "id")
            for name, field in model._meta.fields.items()
        ]
        assert columns == wanted
    assert tuple(models.Memory._meta.fields) == COLUMNS


def test_a_file_of_a_newer_release_is_refused_and_left_alone(path: Path) -> None:
    with Store(path) as store:
        add(store, learning())
        store.write(lambda database: database.pragma("user_version", len(migrations.STEPS) + 1))
    with Store(path) as store:
        with pytest.raises(StateFault, match="upgrade agent-orchestra"):
            ask(store, "quote")
        with pytest.raises(StateFault, match="upgrade agent-orchestra"):
            add(store, learning())
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM memory").fetchone() == (1,)
    connection.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path) as store:
        add(store, learning())
    before = _schema(path)
    half = ("CREATE TABLE half (a)", "CREATE TABLE half (a)")
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, half))
    with Store(path) as store, pytest.raises(StorageFault, match="half"):
        add(store, learning())
    monkeypatch.undo()
    assert _schema(path) == before
    with Store(path) as store:
        assert ids(ask(store, "quote")) == [1]


def test_an_index_of_another_making_is_made_anew(path: Path) -> None:
    with Store(path) as store:
        add(store, learning())

        def other(database: object) -> None:
            store.database.all("DROP TABLE memory_fts")
            store.database.all(
                "CREATE VIRTUAL TABLE memory_fts USING fts5(title, content='memory', content_rowid='id')"
            )

        for name in ("memory_added", "memory_changed", "memory_removed"):
            store.write(lambda database, name=name: database.all(f"DROP TRIGGER {name}"))
        store.write(other)
    with Store(path) as store:
        found = ask(store, "quoting")
        assert (ids(found), found.sources) == ([1], ("full-text",))
