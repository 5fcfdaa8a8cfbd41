"""The tools for the memory, which need no hub: `recall`, `learn`, `report_issue` and `memory_stats`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestra.cli.desk import about, lines_of, preview_of
from orchestra.matrix import unsent
from orchestra.memory import notebook
from orchestra.memory.entry import Entry
from orchestra.memory.filters import Filters
from orchestra.memory.health import semantics_of
from orchestra.memory.recall import Open, Recalled, recall, what_is_open
from orchestra.memory.stats import stats_of
from orchestra.memory.store import Store
from orchestra.memory.when import since_ms
from orchestra.memory.words import Kind, category_of

from . import answers
from .desk import Desk, now_ms

Category = Literal[
    "performance", "architecture", "tooling", "process", "debugging", "security", "testing", "philosophy", "principle",
    "insight", "pattern", "retrospective",
]  # fmt: skip
Component = Literal["chromadb", "sqlite", "memory", "mcp", "agent", "cli", "vector", "other"]


class Memories:
    """What this clone remembers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def recall(
        self,
        question: Annotated[
            str, Field(description="as you would ask a person; '#42' is that memory; nothing: where one left off")
        ] = "",
        kind: Literal["learning", "issue", "message", "session", "context"] | None = None,
        since: Annotated[str, Field(description="only newer: 12h, 3d, 2w, 1m or 2026-11-24")] = "",
        all_projects: Annotated[bool, Field(description="also memories of other projects")] = False,
        full: Annotated[bool, Field(description="everything that each memory says, not only its begin")] = False,
        limit: Annotated[int, Field(ge=1, le=100)] = 8,
    ) -> answers.Recalled:
        """Find what was learned, reported, said and done before in this project.

        Without a question: the last session with its next steps, open issues, unread messages, and what is known best.
        """
        filters = Filters(
            kind=kind or "",
            since_ms=since_ms(since, now_ms=now_ms()) if since else 0,
            project=None if all_projects else self._desk.project,
            home=self._desk.project,
        )
        if not question.strip():
            return _opened(await self._desk.do(partial(what_is_open, filters=filters)), is_full=full)
        asking = partial(recall, text=question, filters=filters, count_max=limit, meaning=self._desk.semantics)
        found = await self._desk.do(asking)
        return _answered(found, is_full=full)

    async def learn(
        self,
        title: Annotated[str, Field(description="what was understood, in one sentence")],
        text: Annotated[str, Field(description="what else there is to say")] = "",
        category: Annotated[Category | None, Field(description="without it the words decide")] = None,
        lesson: Annotated[str, Field(description="what follows from it")] = "",
        prevention: Annotated[str, Field(description="how to keep it from happening again")] = "",
        tags: list[str] | None = None,
        supersedes: Annotated[int | None, Field(description="id of the memory that this one replaces")] = None,
    ) -> answers.Learned:
        """Keep something that was learned, for the sessions after this one. It is on the disk when this returns."""
        entry = Entry(
            kind=Kind.LEARNING,
            title=title,
            body=text,
            category=category or category_of(f"{title} {text}", otherwise="insight"),
            confidence="low",
            lesson=lesson,
            prevention=prevention,
            tags=tuple(tags or ()),
            supersedes=supersedes,
            project=self._desk.project,
            author=self._desk.author,
        )
        (stored,) = await self._desk.do(partial(notebook.add, entries=[entry], now_ms=now_ms()))
        return answers.Learned(id=stored.id, category=stored.category, confidence=stored.confidence)

    async def report_issue(
        self,
        title: Annotated[str, Field(description="what is broken, in one sentence")],
        severity: Literal["critical", "high", "medium", "low"] = "medium",
        component: Annotated[Component, Field(description="what is broken")] = "other",
        repro: Annotated[str, Field(description="how to see it happen")] = "",
        fix: Annotated[str, Field(description="how to mend it")] = "",
        text: Annotated[str, Field(description="what else there is to say")] = "",
    ) -> answers.Reported:
        """Report something that is broken: it is kept here, and other matrices are told, now or when the hub is there.

        A person brings it to GitHub with: orchestra memory issue --promote ID
        """
        entry = Entry(
            kind=Kind.ISSUE,
            title=title,
            severity=severity,
            component=component,
            repro=repro,
            fix=fix,
            body=text,
            project=self._desk.project,
            author=self._desk.author,
        )
        stored = await self._desk.do(partial(unsent.add_issue, entry=entry, now_ms=now_ms()))
        met = await self._desk.link.meet()
        return answers.Reported(
            id=stored.id,
            severity=stored.severity,
            component=stored.component,
            is_published=stored.id in met.sent,
            hub=await self._desk.hub(),
        )

    async def memory_stats(self) -> dict[str, Any]:
        """Tell what the memory holds, how its indexes are, and whether the hub is there."""

        def counting(store: Store) -> dict[str, Any]:
            return {**stats_of(store, now_ms=now_ms()), "meaning": semantics_of(store, self._desk.semantics)}

        return {**await self._desk.do(counting), "hub": (await self._desk.hub()).model_dump()}


def _answered(found: Recalled, *, is_full: bool) -> answers.Recalled:
    hits = [_memory(hit.entry, is_full=is_full, score=round(hit.score, 4), also=list(hit.also)) for hit in found.hits]
    notes = list(found.notes)
    if found.near.model and not found.near.by:
        notes.append(f"only words were compared: {found.near.reason}")
    if found.waiting:
        notes.append(f"{found.waiting} new memories were compared by words alone")
    return answers.Recalled(sources=list(found.sources), notes=notes, found=hits)


def _opened(found: Open, *, is_full: bool) -> answers.Recalled:
    entries = [*([found.session] if found.session else []), *found.issues, *found.messages, *found.learnings]
    notes = [] if entries else ["nothing is remembered of this project yet"]
    shown = [_memory(entry, is_full=is_full or entry is found.session) for entry in entries]
    return answers.Recalled(sources=[], notes=notes, found=shown)


def _memory(entry: Entry, *, is_full: bool, **more: Any) -> answers.Memory:
    text = "\n".join(line.strip() for line in lines_of(entry)) if is_full else preview_of(entry)
    return answers.Memory(
        id=entry.id,
        kind=entry.kind,
        title=entry.title,
        about=about(entry, now_ms=now_ms()),
        text=text,
        project=entry.project,
        **more,
    )
