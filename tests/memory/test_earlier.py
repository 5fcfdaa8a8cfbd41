"""The database of the earlier system comes in, with the numbers its users know."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from orchestra.errors import StateFault
from orchestra.memory import source
from orchestra.memory.exchange import take_in
from orchestra.memory.notebook import get, validation_counts
from orchestra.memory.store import Store

from .memories import ask, ids

TABLES = """
CREATE TABLE learnings (id INTEGER PRIMARY KEY, category TEXT, title TEXT, description TEXT, context TEXT,
    what_happened TEXT, lesson TEXT, prevention TEXT, confidence TEXT, times_validated INTEGER, last_validated_at TEXT,
    source_session_id TEXT, source_url TEXT, project_path TEXT, agent_id INTEGER, visibility TEXT, created_at TEXT);
CREATE TABLE sessions (id TEXT PRIMARY KEY, previous_session_id TEXT, summary TEXT, full_context TEXT, tags TEXT,
    duration_mins INTEGER, project_path TEXT, started_at TEXT, ended_at TEXT, created_at TEXT);
CREATE TABLE matrix_messages (id INTEGER PRIMARY KEY, message_id TEXT, from_matrix TEXT, to_matrix TEXT, content TEXT,
    status TEXT, created_at TEXT, read_at TEXT);
CREATE TABLE lessons (id INTEGER PRIMARY KEY, problem TEXT);
CREATE TABLE agents (id INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE learnings_fts USING fts5(title);
"""
TOLD = {
    "wins": ["It works"],
    "issues": ["It hung"],
    "learnings": ["Keep | it; small, please"],
    "next_steps": ["Write docs"],
    "git_branch": "main",
    "git_commits": ["abc one", {"hash": "def", "message": "two"}],
    "key_decisions": ["SQLite first"],
    "mid_change_state": {"x": 1},
}


def _insert(connection: sqlite3.Connection, table: str, **row: object) -> None:
    row.setdefault("created_at", "2026-01-27 10:00:00")
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@pytest.fixture
def agents_db(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "agents.db")
    connection.executescript(TABLES)
    _insert(
        connection, "learnings", id=1240, category="architecture", title="SQLite first", description="Write it first",
        confidence="high", times_validated=4, last_validated_at="2026-01-28T10:00:00.000Z", project_path="/home/me/web",
        source_session_id="session_1769500000000", visibility="public",
    )  # fmt: skip
    _insert(
        connection, "learnings", id=1509, category="debugging", title="[chromadb] Saving hangs",
        lesson="Severity: critical | Repro: run a | b; then save", prevention="Fix: write to SQLite first",
        confidence="low", times_validated=1, source_url="https://github.com/o/r/issues/3",
    )  # fmt: skip
    _insert(connection, "learnings", id=1510, category="wisdom", title="Odd", confidence="low", times_validated=1)
    _insert(connection, "learnings", id=1511, category="tooling", title="Bad", confidence="certain")
    _insert(
        connection, "sessions", id="session_1769500000000", summary="Built it", full_context=json.dumps(TOLD),
        tags="hub, memory", project_path="/home/me/web",
    )  # fmt: skip
    _insert(connection, "sessions", id="session_2", summary="Broken", full_context="[1")
    _insert(connection, "matrix_messages", id=1, message_id="m1", from_matrix="api", content="Hello\nall")
    connection.execute("INSERT INTO lessons VALUES (1, 'x')")
    connection.commit()
    connection.close()
    return tmp_path / "agents.db"


def test_learnings_issues_sessions_and_messages_come_in(store: Store, agents_db: Path) -> None:
    before = agents_db.read_bytes()
    form, records, report = source.read(agents_db, project="here")
    done = take_in(store, records, report)
    assert (form, done.added) == ("agents.db", 5)
    assert agents_db.read_bytes() == before

    learning, issue, odd = get(store, [1240, 1509, 1510])
    assert (learning.confidence, learning.project, learning.visibility) == ("high", "web", "public")
    assert validation_counts(store, [1240, 1510]) == {1240: 3}, "the writer is not a validation"
    assert (issue.kind, issue.title, issue.severity, issue.component) == (
        "issue",
        "Saving hangs",
        "critical",
        "chromadb",
    )
    assert (issue.repro, issue.fix) == ("run a | b; then save", "write to SQLite first")
    assert issue.link == "https://github.com/o/r/issues/3"
    assert (odd.category, odd.tags) == ("insight", ("wisdom",))

    (session,) = store.entries("WHERE m.kind = 'session'")
    assert learning.session == session.id
    assert (session.wins, session.challenges, session.next_steps) == (("It works",), ("It hung",), ("Write docs",))
    assert session.learnings == ("Keep | it; small, please",)
    assert (session.branch, session.commits, session.tags) == ("main", ("abc one", "def two"), ("hub", "memory"))
    assert session.body == "Decided: SQLite first"
    assert ids(ask(store, "session_1769500000000")) == [session.id]

    (message,) = store.entries("WHERE m.kind = 'message'")
    assert (message.title, message.body) == ("Hello all", "Hello\nall")
    assert (message.sender, message.recipient, message.read_ms) == ("api", "*", None)

    assert [misfit.split(":")[0] for misfit in done.misfits] == [
        "learnings 1510",
        "learnings 1511",
        "table lessons",
        "sessions session_1769500000000",
        "sessions session_2",
    ]
    _, records, report = source.read(agents_db, project="here")
    again = take_in(store, records, report)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 5)


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agents.db").write_bytes(b"SQLite format 3\0" + b"\xa5" * 5000)
    with pytest.raises(StateFault, match="can't be read as a database"):
        source.read(tmp_path / "agents.db", project="here")
