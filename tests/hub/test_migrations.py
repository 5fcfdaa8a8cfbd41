"""Migrations: from an empty file, or any earlier one, to today's schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestra.hub import migrations, models
from orchestra.hub.store import Store


def _schema(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    connection.close()
    return found


def _version(path: Path) -> int:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(found)


def test_an_empty_file_gets_every_table_and_todays_version(tmp_path: Path) -> None:
    Store(tmp_path / "hub.db").close()
    schema = _schema(tmp_path / "hub.db")
    for table in models.TABLES:
        sql = schema[table._meta.table_name]
        assert "STRICT" in sql.upper(), f"{sql} would take values of a wrong type"
    assert _version(tmp_path / "hub.db") == len(migrations.STEPS)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    Store(tmp_path / "hub.db").close()
    before = _schema(tmp_path / "hub.db")
    Store(tmp_path / "hub.db").close()
    assert _schema(tmp_path / "hub.db") == before


def test_a_step_is_taken_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path / "hub.db").close()
    taken: list[str] = []
    more = (lambda database: taken.append("second"), lambda database: taken.append("third"))
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, *more))
    for _ in range(2):
        Store(tmp_path / "hub.db").close()
    assert taken == ["second", "third"]
    assert _version(tmp_path / "hub.db") == len(migrations.STEPS)


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path / "hub.db").close()
    before, version = _schema(tmp_path / "hub.db"), _version(tmp_path / "hub.db")

    def broken(database: object) -> None:
        models.database.execute_sql("CREATE TABLE half (a)")
        models.database.execute_sql("CREATE TABLE half (a)")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
    with pytest.raises(migrations.StateFault.__mro__[1]):  # a fault of the world
        Store(tmp_path / "hub.db")
    assert (_schema(tmp_path / "hub.db"), _version(tmp_path / "hub.db")) == (before, version)
    monkeypatch.undo()
    Store(tmp_path / "hub.db").close()


def test_a_file_of_the_first_layout_gets_todays(tmp_path: Path) -> None:
    given = {"agent/a": "send:*", "agent/b": "", "agent/c": None, "operator/o": "administer"}
    with sqlite3.connect(tmp_path / "hub.db") as connection:
        connection.executescript((Path(__file__).parents[1] / "data" / "hub-v1.sql").read_text(encoding="utf-8"))
        for number, (address, grants) in enumerate(given.items(), 1):
            connection.execute("INSERT INTO address VALUES (?, ?)", (number, address))
            connection.execute("INSERT INTO peer VALUES (?, 0, NULL, 0, 0, NULL, NULL, ?)", (number, grants))
    connection.close()
    assert _version(tmp_path / "hub.db") == 1
    Store(tmp_path / "hub.db").close()
    Store(tmp_path / "fresh.db").close()
    assert _version(tmp_path / "hub.db") == len(migrations.STEPS)
    assert set(_schema(tmp_path / "hub.db")) == set(_schema(tmp_path / "fresh.db"))
    with closing(Store(tmp_path / "hub.db")) as old, closing(Store(tmp_path / "new.db")) as new:
        assert len(old.load(now_ms=0).hub_uid) == 16
        assert old.load(now_ms=0).hub_uid != new.load(now_ms=0).hub_uid
        assert [each.grants for each in old.load(now_ms=0).peers.values()] == [
            ("send:*", "read:*", "receive"),
            ("read:*", "receive"),
            None,
            ("administer", "read:*", "receive", "manage", "observe"),
        ], "nobody loses what needed no grant then"


@pytest.mark.parametrize(
    "sql",
    ["ALTER TABLE task ADD COLUMN extra INTEGER", "ALTER TABLE task DROP COLUMN report", "DROP TABLE dead"],
)
def test_a_layout_that_no_release_had_is_refused_and_left_alone(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "hub.db"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()
    before = _schema(path)
    with pytest.raises(migrations.StateFault, match="made between two releases"):
        Store(path)
    assert _schema(path) == before
