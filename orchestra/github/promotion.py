"""Promoting an issue of a memory: it is created on GitHub once, and the memory keeps the link.

Before it is created the memory notes that it will be. So after a crash between the two, or an answer that was lost, the
next try knows to look first: the issue's uid stands in the text on GitHub, where only its source shows it. GitHub's
list of newest issues is looked through, not its search, whose index is minutes late.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from orchestra.errors import BadOption, GitHubFault
from orchestra.limits import GITHUB_PAGES_MAX
from orchestra.memory import notebook
from orchestra.memory.database import Database
from orchestra.memory.entry import Entry, shortened
from orchestra.memory.store import Store, update
from orchestra.memory.words import Kind

from .api import GitHub

_TITLE_CHARS: Final = 256  # GitHub's limit
_TEXT_CHARS: Final = 20_000  # of each part; GitHub takes 65,536 of all
_PAGE: Final = 100
_SKEW_MS: Final = 3_600_000  # that this machine's clock may be ahead of GitHub's
_WITHOUT_LABELS: Final = (403, 422)  # answers to labels that may not be set


def promote(
    store: Store, id: int, github: GitHub, *, now_ms: int, also: Callable[[Database], None] = lambda database: None
) -> tuple[Entry, bool]:
    """Create the issue on GitHub unless it is there; return it with its link, and whether it was created now.

    `also` is done in the transaction that keeps the link.

    Raises:
        NotFound, BadOption: if there is no such issue.
        GitHubFault: if it could not be created.
    """
    with _alone(store):
        (entry,) = notebook.get(store, [id])
        if entry.kind != Kind.ISSUE:
            raise BadOption(f"#{id} is a {entry.kind}, not an issue; see: orchestra memory issue --list")
        if entry.link:
            return entry, False
        began_ms = _began(store, id, now_ms=now_ms)
        link = _find(github, entry, began_ms=began_ms) if began_ms else ""
        is_new = not link
        link = link or _create(github, entry)
        _keep(store, id, link, now_ms=now_ms, also=also)
        return notebook.get(store, [id])[0], is_new


def marker_of(entry: Entry) -> str:
    return f"<!-- agent-orchestra issue {entry.uid} -->"


def text_of(entry: Entry) -> str:
    """Return an issue as GitHub shows it."""
    reported = datetime.fromtimestamp(entry.created_ms / 1000, UTC)
    facts = {"Severity": entry.severity, "Component": entry.component, "Reported": f"{reported:%Y-%m-%d}"}
    parts = ["\n".join(f"**{name}:** {value}  " for name, value in facts.items() if value)]
    if len(entry.title) > _TITLE_CHARS:
        parts.append(entry.title)
    for heading, text in (("", entry.body), ("## How to see it", entry.repro), ("## How to mend it", entry.fix)):
        if text:
            parts.append(f"{heading}\n\n{shortened(text, _TEXT_CHARS)}".strip())
    return "\n\n".join([*parts, marker_of(entry)])


def _began(store: Store, id: int, *, now_ms: int) -> int:
    """Note that the issue is about to be created; return when that was begun before, or 0."""

    def work(database: Database) -> int:
        before = database.all("SELECT began_ms FROM promotion WHERE memory = ?", id)
        if not before:
            database.all("INSERT INTO promotion (memory, began_ms) VALUES (?, ?)", id, now_ms)
        return int(before[0][0]) if before else 0

    return store.write(work)


def _find(github: GitHub, entry: Entry, *, began_ms: int) -> str:
    """Return the link of the issue if it was created at that time or later."""
    marker, since_ms = marker_of(entry), began_ms - _SKEW_MS
    for page in range(1, GITHUB_PAGES_MAX + 1):
        query = f"state=all&sort=created&direction=desc&per_page={_PAGE}&page={page}"
        issues = github.call("GET", f"repos/{github.repository}/issues?{query}")
        if not isinstance(issues, list):
            raise GitHubFault("GitHub's list of issues is none; see whether the address of its API is right")
        for each in issues:
            if marker in (each.get("body") or ""):
                return str(each["html_url"])
        if len(issues) < _PAGE or _ms(issues[-1].get("created_at")) < since_ms:
            return ""
    raise GitHubFault(f"#{entry.id} is not among the newest {GITHUB_PAGES_MAX * _PAGE} issues of {github.repository}")


def _create(github: GitHub, entry: Entry) -> str:
    path = f"repos/{github.repository}/issues"
    issue = {"title": shortened(entry.title, _TITLE_CHARS), "body": text_of(entry)}
    labels = ["bug", f"priority:{entry.severity}", f"component:{entry.component or 'other'}"]
    try:
        made = github.call("POST", path, {**issue, "labels": labels})
    except GitHubFault as fault:
        if fault.status not in _WITHOUT_LABELS:
            raise
        made = github.call("POST", path, issue)
    try:
        return str(made["html_url"])
    except (KeyError, TypeError) as exc:
        raise GitHubFault("GitHub's answer holds no link; say the same again, which looks for the issue first") from exc


def _keep(store: Store, id: int, link: str, *, now_ms: int, also: Callable[[Database], None]) -> None:
    def work(database: Database) -> None:
        update(database, id, link=link, updated_ms=now_ms)
        database.all("DELETE FROM promotion WHERE memory = ?", id)
        also(database)

    store.write(work)


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Let one process of this memory promote at a time. The lock is the kernel's: a killed process leaves none."""
    with store.told():
        lock = os.open(store.path.with_suffix(".promoting"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _ms(stamp: Any) -> int:
    try:
        return int(datetime.fromisoformat(str(stamp)).timestamp() * 1000)
    except ValueError:
        return 0
