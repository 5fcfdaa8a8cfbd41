"""The database of the earlier system (`agents.db`): its learnings, issues, sessions and messages.

It kept issues as learnings with `[component]` in the title and the rest in sentences, sessions as JSON in a column, and
counted the writer as the first validation.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import quote

from orchestra.errors import OrchestraError, StateFault
from orchestra.limits import MEMORY_ITEM_CHARS_MAX, MEMORY_ITEMS_MAX, MEMORY_TEXT_CHARS_MAX, MEMORY_TITLE_CHARS_MAX

from .entry import Entry, one_line, shortened
from .exchange import Record, Report
from .when import stamp_ms
from .words import CATEGORIES, COMPONENTS, Confidence, Kind, Severity, Visibility

Row = dict[str, Any]

_VALIDATIONS_MAX: Final = 100
_BY: Final = "imported"
_LISTS: Final = {
    "wins": ("wins",),
    "challenges": ("challenges", "issues"),
    "learnings": ("learnings",),
    "next_steps": ("next_steps", "nextSteps"),
    "commits": ("git_commits", "gitCommits", "commits"),
    "files": ("git_files_changed", "git_files", "gitFiles", "files_changed", "files"),
}
_BRANCH: Final = ("git_branch", "gitBranch", "branch")


def records_in(path: Path, report: Report) -> list[Record]:
    """Read a whole `agents.db`; what does not fit goes into the report. The file is not changed.

    Raises:
        StateFault: if it can't be read.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            return _all(connection, report)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise StateFault(f"{path} can't be read as a database: {exc}; import a copy that is whole") from exc


def _all(connection: sqlite3.Connection, report: Report) -> list[Record]:
    records: list[Record] = []
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in sorted(tables, key=lambda name: (name != "learnings", name)):
        if re.match(r"sqlite_|learnings_fts|.*_fts(_|$)", table):
            continue
        read = _READERS.get(table)
        if read is None:
            (count,) = connection.execute(f'SELECT count(*) FROM "{table.replace(chr(34), chr(34) * 2)}"').fetchone()
            if count:
                report.misfits.append(f"table {table}: its {count} rows have no place here")
            continue
        for row in connection.execute(f'SELECT * FROM "{table}"'):
            facts: Row = dict(row)
            try:
                records.append(read(facts, report))
            except (OrchestraError, ValueError, TypeError, KeyError, AttributeError) as exc:
                report.misfits.append(f"{table} {facts.get('id', '?')}: {exc}")
    return records


def _learning(row: Row, report: Report) -> Record:
    common: Row = {
        "id": int(row["id"]),
        "uid": _uid("learnings", row),
        "body": _text(row, "description", "what_happened"),
        **_common(row),
    }
    category = str(row["category"])
    if category == "message":
        return Record(Entry(kind=Kind.MESSAGE, title=_title(row), sender=_text(row, "agent_id"), **common).checked())
    if issue := _issue(row, common):
        return Record(issue)
    if category not in CATEGORIES:
        report.misfits.append(
            f"learnings {row['id']}: category {category!r} does not exist here; it became insight, with a tag"
        )
        common["tags"] = (*common["tags"], category)
        category = "insight"
    confidence = Confidence(row.get("confidence") or "low")
    count = min(_VALIDATIONS_MAX, max(0, int(row.get("times_validated") or 1) - 1))
    at_ms = stamp_ms(row.get("last_validated_at") or row["created_at"])
    entry = Entry(
        kind=Kind.LEARNING,
        title=_title(row),
        category=category,
        confidence=confidence,
        lesson=_text(row, "lesson"),
        prevention=_text(row, "prevention"),
        context=_text(row, "context"),
        **common,
    ).checked()
    session = row.get("source_session_id") or ""
    return Record(entry, ((_BY, at_ms, ""),) * count, f"agents.db:{session}" if session else "")


def _issue(row: Row, common: Row) -> Entry | None:
    """Read an issue out of a learning: `[component] title`, `Severity: x | Repro: y`, `Fix: z`."""
    title = re.match(r"\[([\w-]+)\]\s*(.+)", str(row["title"]), re.DOTALL)
    lesson = _text(row, "lesson")
    severity = re.match(r"Severity:\s*(\w+)", lesson)
    if row["category"] != "debugging" or not title or not severity or severity[1].lower() not in tuple(Severity):
        return None
    link = str(row.get("source_url") or "")
    return Entry(
        kind=Kind.ISSUE,
        title=shortened(one_line(title[2]), MEMORY_TITLE_CHARS_MAX),
        severity=severity[1].lower(),
        component=title[1] if title[1] in COMPONENTS else "other",
        repro=lesson.partition("Repro:")[2].strip(),
        fix=_text(row, "prevention").removeprefix("Fix:").strip(),
        link=link,
        **{**common, "source": "" if link else common["source"]},
    ).checked()


def _session(row: Row, report: Report) -> Record:
    told = json.loads(row.get("full_context") or "{}")
    if not isinstance(told, dict):
        raise ValueError("full_context is not an object")
    lists: Row = {name: _items(*(told.pop(key, None) for key in keys)) for name, keys in _LISTS.items()}
    branch = next((str(value) for key in _BRANCH if (value := told.pop(key, ""))), "")
    told.pop("tags", None)
    decisions = _items(told.pop("key_decisions", None), told.pop("keyDecisions", None))
    left = sorted(key for key, value in told.items() if value)
    if left:
        report.misfits.append(f"sessions {row['id']}: {', '.join(left)} have no place here")
    summary = str(row["summary"])
    body = [summary] if len(one_line(summary)) > MEMORY_TITLE_CHARS_MAX or "\n" in summary.strip() else []
    body += [f"Decided: {each}" for each in decisions]
    common = _common(row)
    return Record(
        Entry(
            kind=Kind.SESSION,
            uid=f"agents.db:{row['id']}",
            title=shortened(one_line(summary), MEMORY_TITLE_CHARS_MAX),
            body=shortened("\n".join(body), MEMORY_TEXT_CHARS_MAX),
            branch=branch,
            **lists,
            **{**common, "source": str(row["id"])},
        ).checked()
    )


def _message(row: Row, report: Report) -> Record:
    read = row.get("read_at")
    content = str(row["content"])
    return Record(
        Entry(
            kind=Kind.MESSAGE,
            uid=_uid("matrix_messages", row),
            title=shortened(one_line(content), MEMORY_TITLE_CHARS_MAX),
            body=shortened(content, MEMORY_TEXT_CHARS_MAX)
            if one_line(content) != content.strip() or len(content) > 500
            else "",
            sender=_text(row, "from_matrix"),
            recipient=_text(row, "to_matrix") or "*",
            read_ms=stamp_ms(read) if read else None,
            **_common(row),
        ).checked()
    )


_READERS: Final[dict[str, Callable[[Row, Report], Record]]] = {
    "learnings": _learning,
    "matrix_messages": _message,
    "sessions": _session,
}


def _common(row: Row) -> Row:
    visibility = row.get("visibility") or Visibility.SHARED
    created_ms = stamp_ms(row["created_at"])
    return {
        "created_ms": created_ms,
        "updated_ms": max(
            created_ms, stamp_ms(row.get("last_validated_at") or row.get("ended_at") or row["created_at"])
        ),
        "project": PurePath(str(row.get("project_path") or "")).name,
        "author": _text(row, "agent_id"),
        "source": _text(row, "source_url"),
        "visibility": visibility if visibility in tuple(Visibility) else Visibility.SHARED,
        "tags": _tags(row.get("tags")),
    }


def _tags(value: Any) -> tuple[str, ...]:
    text = str(value or "").strip()
    if text.startswith("["):
        return _items(json.loads(text))
    return _items(text.split(","))


def _title(row: Row) -> str:
    return shortened(one_line(str(row["title"])), MEMORY_TITLE_CHARS_MAX)


def _text(row: Row, *names: str) -> str:
    """Return the columns as one text."""
    found = [str(row[name]) for name in names if row.get(name) not in (None, "")]
    return shortened("\n\n".join(dict.fromkeys(found)), MEMORY_TEXT_CHARS_MAX)


def _items(*values: Any) -> tuple[str, ...]:
    """Return texts out of what the earlier system kept as a list, in whatever form."""
    found: list[str] = []
    for value in values:
        for each in value if isinstance(value, list) else [value] if value else []:
            if isinstance(each, dict):
                each = " ".join(str(part) for part in each.values() if part not in (None, ""))
            if line := one_line(str(each)):
                found.append(shortened(line, MEMORY_ITEM_CHARS_MAX))
    return tuple(dict.fromkeys(found))[:MEMORY_ITEMS_MAX]


def _uid(table: str, row: Row) -> str:
    """Return the same uid for the same row of the same database, and another for another clone's row of the same id."""
    facts = [table, row.get("id"), row.get("created_at"), row.get("title"), row.get("content")]
    return "agents.db:" + hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]
