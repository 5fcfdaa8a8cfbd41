from __future__ import annotations

import json
from pathlib import Path

from orchestra.memory import source
from orchestra.memory.exchange import take_in
from orchestra.memory.store import Store

ISSUES = [
    {
        "id": "bd-1",
        "title": "Hub hangs on start",
        "description": "It waits.",
        "design": "Use a lock.",
        "status": "open",
        "priority": 0,
        "issue_type": "bug",
        "created_at": "2025-11-01T10:00:00Z",
        "updated_at": "2025-11-02T10:00:00.5+01:00",
        "labels": ["hub"],
        "external_ref": "gh-9",
        "assignee": "ann",
        "dependencies": [{"issue_id": "bd-1", "depends_on_id": "bd-2", "type": "blocks"}],
        "comments": [{"author": "bob", "text": "Seen here too"}],
    },
    {
        "id": "bd-2",
        "title": "Old",
        "status": "closed",
        "priority": 4,
        "created_at": "2025-11-01T10:00:00Z",
        "closed_at": "2025-11-03T10:00:00Z",
        "close_reason": "done by the lock",
    },
    {"id": "bd-3", "title": "Busy", "status": "in_progress", "issue_type": "feature", "created_at": "2025-11-01"},
    {"id": "bd-4", "title": "Gone", "status": "tombstone", "created_at": "2025-11-01", "priority": 2},
    {"id": "bd-5", "title": "No date"},
]


def test_issues_of_beads_become_issues_with_what_did_not_fit_named(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "issues.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in ISSUES), encoding="utf-8")
    form, records, report = source.read(file, project="web")
    done = take_in(store, records, report)
    assert (form, done.added) == ("beads", 4)
    assert done.misfits == [
        "line 5: 'created_at'",
        "field assignee of 1 issues has no place here",
        "field dependencies of 1 issues has no place here",
    ]
    hub, old, busy, gone = store.entries("ORDER BY m.id")
    assert (hub.kind, hub.severity, hub.link, hub.tags) == ("issue", "critical", "gh-9", ("hub", "bug"))
    assert hub.body == "It waits.\n\nDesign: Use a lock.\n\nbob: Seen here too"
    assert hub.updated_ms - hub.created_ms == 23 * 3_600_000 + 500
    assert (old.severity, old.fix, old.closed_ms) == ("low", "done by the lock", old.created_ms + 2 * 86_400_000)
    assert (busy.tags, busy.closed_ms) == (("feature", "in_progress"), None)
    assert gone.forgotten_ms is not None
    _, records, report = source.read(file, project="web")
    assert take_in(store, records, report).added == 0
