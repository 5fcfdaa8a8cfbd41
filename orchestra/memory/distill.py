"""Learnings out of sessions, by rules: each win, challenge and insight of a session is one, once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from orchestra.limits import MEMORY_TITLE_CHARS_MAX

from .database import Database
from .entry import Entry, shortened
from .notebook import fresh
from .store import Store, insert
from .words import Confidence, Kind, category_of

# What an item of a session most likely is when its words don't tell.
_OTHERWISE: Final = {"learnings": "insight", "wins": "pattern", "challenges": "retrospective"}
_DRAWN: Final = "SELECT session, title FROM memory WHERE kind = 'learning' AND session IS NOT NULL"


def proposed(store: Store, sessions: Iterable[Entry]) -> list[Entry]:
    """Return the learnings of these sessions that were not drawn from them before, nor forgotten since."""
    drawn = set(store.rows(_DRAWN))
    return [
        entry for session in sessions for entry in learnings_in(session) if (entry.session, entry.title) not in drawn
    ]


def distill(store: Store, sessions: Iterable[Entry], *, now_ms: int) -> list[Entry]:
    """Write the proposed learnings; return those that this call wrote. Safe to repeat, also at the same time."""
    candidates = [fresh(entry, now_ms=now_ms) for session in sessions for entry in learnings_in(session)]

    def work(database: Database) -> list[Entry]:
        drawn = set(database.all(_DRAWN))
        new = [entry for entry in candidates if (entry.session, entry.title) not in drawn]
        return [replace(entry, id=insert(database, entry)) for entry in new]

    return store.write(work) if candidates else []


def learnings_in(session: Entry) -> list[Entry]:
    """Return the learnings that a session holds, each text once; they start with low confidence."""
    drawn: dict[str, Entry] = {}
    for name, otherwise in _OTHERWISE.items():
        for text in getattr(session, name):
            title = shortened(text, MEMORY_TITLE_CHARS_MAX)
            drawn.setdefault(
                title,
                Entry(
                    kind=Kind.LEARNING,
                    title=title,
                    body=text if title != text else "",
                    category=category_of(text, otherwise=otherwise),
                    confidence=Confidence.LOW,
                    session=session.id,
                    source=f"{name} of session #{session.id}",
                    context=session.title,
                    tags=session.tags,
                    visibility=session.visibility,
                    project=session.project,
                    author=session.author,
                ),
            )
    return list(drawn.values())
