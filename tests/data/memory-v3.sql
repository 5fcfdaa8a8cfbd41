-- A memory as the release with version 3 made it. Never edit this: it is what users have.

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
) STRICT;
CREATE INDEX memory_by_kind ON memory (kind, created_ms);
CREATE INDEX memory_superseded ON memory (supersedes) WHERE supersedes IS NOT NULL;
CREATE UNIQUE INDEX memory_drawn ON memory (session, title) WHERE kind = 'learning' AND session IS NOT NULL;
CREATE TABLE validation (
    id INTEGER PRIMARY KEY,
    memory INTEGER NOT NULL,
    author TEXT NOT NULL DEFAULT '',
    at_ms INTEGER NOT NULL,
    note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX validation_memory ON validation (memory);
CREATE VIRTUAL TABLE memory_fts USING fts5(title, tags, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps, category, component, branch, commits, sender, content='memory', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');
CREATE TRIGGER memory_added AFTER INSERT ON memory BEGIN INSERT INTO memory_fts(rowid, title, tags, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps, category, component, branch, commits, sender) VALUES (new.id, new.title, new.tags, new.body, new.lesson, new.prevention, new.context, new.repro, new.fix, new.wins, new.challenges, new.learnings, new.next_steps, new.category, new.component, new.branch, new.commits, new.sender); END;
CREATE TRIGGER memory_changed AFTER UPDATE OF title, tags, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps, category, component, branch, commits, sender ON memory BEGIN INSERT INTO memory_fts(memory_fts, rowid, title, tags, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps, category, component, branch, commits, sender) VALUES ('delete', old.id, old.title, old.tags, old.body, old.lesson, old.prevention, old.context, old.repro, old.fix, old.wins, old.challenges, old.learnings, old.next_steps, old.category, old.component, old.branch, old.commits, old.sender); INSERT INTO memory_fts(rowid, title, tags, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps, category, component, branch, commits, sender) VALUES (new.id, new.title, new.tags, new.body, new.lesson, new.prevention, new.context, new.repro, new.fix, new.wins, new.challenges, new.learnings, new.next_steps, new.category, new.component, new.branch, new.commits, new.sender); END;
CREATE TRIGGER memory_removed AFTER DELETE ON memory BEGIN INSERT INTO memory_fts(memory_fts, rowid, title, tags, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps, category, component, branch, commits, sender) VALUES ('delete', old.id, old.title, old.tags, old.body, old.lesson, old.prevention, old.context, old.repro, old.fix, old.wins, old.challenges, old.learnings, old.next_steps, old.category, old.component, old.branch, old.commits, old.sender); END;
CREATE TABLE letter (
    id INTEGER PRIMARY KEY,
    hub TEXT NOT NULL,
    seq INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    is_told INTEGER NOT NULL DEFAULT 0,
    UNIQUE (hub, seq)
) STRICT;
CREATE INDEX letter_memory ON letter (memory);
CREATE INDEX letter_untold ON letter (hub) WHERE is_told = 0;
CREATE TABLE unsent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    memory INTEGER NOT NULL UNIQUE,
    rev INTEGER NOT NULL DEFAULT 1,
    base INTEGER,
    error TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TRIGGER unsent_removed AFTER DELETE ON memory
BEGIN DELETE FROM unsent WHERE memory = old.id; END;
CREATE TRIGGER unsent_forgotten AFTER UPDATE OF forgotten_ms ON memory WHEN new.forgotten_ms IS NOT NULL
BEGIN DELETE FROM unsent WHERE memory = old.id; END;
CREATE TABLE mailbox (id INTEGER PRIMARY KEY, hub TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL) STRICT;
CREATE TABLE promotion (
    id INTEGER PRIMARY KEY, memory INTEGER NOT NULL UNIQUE, began_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE vector (
    memory INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL UNIQUE,
    model TEXT NOT NULL,
    vec BLOB
) STRICT;
CREATE TABLE to_embed (
    memory INTEGER PRIMARY KEY,
    rev INTEGER NOT NULL DEFAULT 1,
    queued_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TRIGGER to_embed_added AFTER INSERT ON memory BEGIN
    INSERT INTO to_embed (memory, queued_ms) VALUES (new.id, new.updated_ms)
        ON CONFLICT (memory) DO UPDATE SET rev = rev + 1, tries = 0, error = '';
END;
CREATE TRIGGER to_embed_changed AFTER UPDATE OF
    title, body, lesson, prevention, context, repro, fix, wins, challenges, learnings, next_steps ON memory
BEGIN
    INSERT INTO to_embed (memory, queued_ms) VALUES (new.id, new.updated_ms)
        ON CONFLICT (memory) DO UPDATE SET rev = rev + 1, tries = 0, error = '';
END;
CREATE TRIGGER to_embed_removed AFTER DELETE ON memory BEGIN
    DELETE FROM to_embed WHERE memory = old.id;
    UPDATE vector SET vec = NULL, seq = (SELECT max(seq) + 1 FROM vector) WHERE memory = old.id;
END;
INSERT INTO memory (uid, kind, title, created_ms, updated_ms, project, category, confidence)
VALUES ('a1', 'learning', 'Quote user text', 1, 1, 'web', 'insight', 'low');
INSERT INTO memory (uid, kind, title, created_ms, updated_ms, project, severity, component)
VALUES ('a2', 'issue', 'It hangs', 2, 2, 'web', 'medium', 'other');
INSERT INTO memory (uid, kind, title, created_ms, updated_ms, project, wins)
VALUES ('a3', 'session', 'Worked', 3, 3, 'web', 'one' || char(10) || 'two');
INSERT INTO validation (memory, author, at_ms, note) VALUES (1, 'me', 4, '');
INSERT INTO vector (memory, seq, model, vec) VALUES (1, 1, 'a-model', x'0000803f00000000');
DELETE FROM to_embed WHERE memory = 1;
PRAGMA user_version = 3;
