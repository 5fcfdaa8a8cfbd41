"""Numbered steps from an empty file to today's tables; `PRAGMA user_version` says how many were taken.

A step that was released is never edited: it is literal SQL, so that it does tomorrow what it does today. The full-text
index is no part of them: it is made anew whenever it is not the one that fulltext.py describes.
"""

from __future__ import annotations

from typing import Final

from orchestra.errors import StateFault

from . import fulltext
from .database import Database

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE memory (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            uid TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL CHECK (kind IN ('learning', 'issue', 'message', 'session', 'context')),
            title TEXT NOT NULL,
            body TEXT NOT NULL DEFAULT '',
            created_ms INTEGER NOT NULL,
            updated_ms INTEGER NOT NULL,
            author TEXT NOT NULL DEFAULT '',
            source TEXT NOT NULL DEFAULT '',
            tags TEXT NOT NULL DEFAULT '',
            visibility TEXT NOT NULL DEFAULT 'shared' CHECK (visibility IN ('private', 'shared', 'public')),
            project TEXT NOT NULL DEFAULT '',
            supersedes INTEGER,
            forgotten_ms INTEGER,
            category TEXT NOT NULL DEFAULT '',
            lesson TEXT NOT NULL DEFAULT '',
            prevention TEXT NOT NULL DEFAULT '',
            context TEXT NOT NULL DEFAULT '',
            confidence TEXT NOT NULL DEFAULT '' CHECK (confidence IN ('', 'low', 'medium', 'high', 'proven')),
            session INTEGER,
            severity TEXT NOT NULL DEFAULT '' CHECK (severity IN ('', 'critical', 'high', 'medium', 'low')),
            component TEXT NOT NULL DEFAULT '',
            repro TEXT NOT NULL DEFAULT '',
            fix TEXT NOT NULL DEFAULT '',
            link TEXT NOT NULL DEFAULT '',
            closed_ms INTEGER,
            sender TEXT NOT NULL DEFAULT '',
            recipient TEXT NOT NULL DEFAULT '',
            thread TEXT NOT NULL DEFAULT '',
            read_ms INTEGER,
            wins TEXT NOT NULL DEFAULT '',
            challenges TEXT NOT NULL DEFAULT '',
            learnings TEXT NOT NULL DEFAULT '',
            next_steps TEXT NOT NULL DEFAULT '',
            branch TEXT NOT NULL DEFAULT '',
            commits TEXT NOT NULL DEFAULT '',
            files TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        "CREATE INDEX memory_by_kind ON memory (kind, created_ms)",
        "CREATE INDEX memory_superseded ON memory (supersedes) WHERE supersedes IS NOT NULL",
        "CREATE UNIQUE INDEX memory_drawn ON memory (session, title) WHERE kind = 'learning' AND session IS NOT NULL",
        """
        CREATE TABLE validation (
            id INTEGER PRIMARY KEY,
            memory INTEGER NOT NULL,
            author TEXT NOT NULL DEFAULT '',
            at_ms INTEGER NOT NULL,
            note TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        "CREATE INDEX validation_memory ON validation (memory)",
    ),
    (
        """
        CREATE TABLE letter (
            id INTEGER PRIMARY KEY,
            hub TEXT NOT NULL,
            seq INTEGER NOT NULL,
            memory INTEGER NOT NULL,
            is_told INTEGER NOT NULL DEFAULT 0,
            UNIQUE (hub, seq)
        ) STRICT
        """,
        "CREATE INDEX letter_memory ON letter (memory)",
        "CREATE INDEX letter_untold ON letter (hub) WHERE is_told = 0",
        """
        CREATE TABLE unsent (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            memory INTEGER NOT NULL UNIQUE,
            rev INTEGER NOT NULL DEFAULT 1,
            base INTEGER,
            error TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        """
        CREATE TRIGGER unsent_removed AFTER DELETE ON memory
        BEGIN DELETE FROM unsent WHERE memory = old.id; END
        """,
        """
        CREATE TRIGGER unsent_forgotten AFTER UPDATE OF forgotten_ms ON memory WHEN new.forgotten_ms IS NOT NULL
        BEGIN DELETE FROM unsent WHERE memory = old.id; END
        """,
        "CREATE TABLE mailbox (id INTEGER PRIMARY KEY, hub TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL) STRICT",
        """
        CREATE TABLE promotion (
            id INTEGER PRIMARY KEY, memory INTEGER NOT NULL UNIQUE, began_ms INTEGER NOT NULL
        ) STRICT
        """,
    ),
    (
        """
        CREATE TABLE vector (
            memory INTEGER PRIMARY KEY,
            seq INTEGER NOT NULL UNIQUE,
            model TEXT NOT NULL,
            vec BLOB
        ) STRICT
        """,
        """
        CREATE TABLE to_embed (
            memory INTEGER PRIMARY KEY,
            rev INTEGER NOT NULL DEFAULT 1,
            queued_ms INTEGER NOT NULL,
            tries INTEGER NOT NULL DEFAULT 0,
            error TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        "INSERT INTO to_embed (memory, queued_ms) SELECT id, updated_ms FROM memory",
        """
        CREATE TRIGGER to_embed_added AFTER INSERT ON memory BEGIN
            INSERT INTO to_embed (memory, queued_ms) VALUES (new.id, new.updated_ms)
                ON CONFLICT (memory) DO UPDATE SET rev = rev + 1, tries = 0, error = '';
        END
        """,
        """
        CREATE TRIGGER to_embed_changed AFTER UPDATE OF
            title, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps ON memory
        BEGIN
            INSERT INTO to_embed (memory, queued_ms) VALUES (new.id, new.updated_ms)
                ON CONFLICT (memory) DO UPDATE SET rev = rev + 1, tries = 0, error = '';
        END
        """,
        """
        CREATE TRIGGER to_embed_removed AFTER DELETE ON memory BEGIN
            DELETE FROM to_embed WHERE memory = old.id;
            UPDATE vector SET vec = NULL, seq = (SELECT max(seq) + 1 FROM vector) WHERE memory = old.id;
        END
        """,
    ),
)


def is_current(database: Database) -> bool:
    """Whether there is nothing to do.

    Raises:
        StateFault: if the file was written by a newer release.
    """
    version = database.pragma("user_version")
    if version > len(STEPS):
        raise StateFault(
            f"the memory {database.database} is of version {version}, and this release knows up to {len(STEPS)}; "
            "upgrade agent-orchestra, or choose another file with --memory"
        )
    return bool(version == len(STEPS) and fulltext.is_of_today(database))


def migrate(database: Database) -> None:
    """Take the steps that are missing. Inside one transaction, so that a fault leaves the file as it was."""
    if is_current(database):
        return
    fulltext.take_off(database)  # their columns may change
    for number in range(database.pragma("user_version"), len(STEPS)):
        for sql in STEPS[number]:
            database.all(sql)
    fulltext.make_anew(database)
    database.pragma("user_version", len(STEPS))
