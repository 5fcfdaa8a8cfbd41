"""What the commands of `orchestra memory` share: their options, the open memory, and how a memory is shown."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from orchestra.limits import MEMORY_LIST_ROWS_MAX
from orchestra.memory.words import Visibility

from .shared import ago, clean, say

if TYPE_CHECKING:
    from orchestra.memory.entry import Entry
    from orchestra.memory.meaning import Semantics
    from orchestra.memory.store import Store

_CHARS_A_TOKEN: Final = 4  # of English; only for the estimate that is shown
_PREVIEW_CHARS: Final = 200

_SECTIONS: Final = (
    ("body", ""), ("context", "context"), ("lesson", "lesson"), ("prevention", "prevention"), ("repro", "repro"),
    ("fix", "fix"), ("wins", "wins"), ("challenges", "challenges"), ("learnings", "learnings"), ("next_steps", "next"),
    ("branch", "branch"), ("commits", "commits"), ("files", "files"), ("link", "link"), ("source", "source"),
    ("tags", "tags"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Desk:
    """An open memory, the project that is worked on, and the time."""

    store: Store
    semantics: Semantics
    project: str
    now_ms: int


@contextmanager
def desk_at(memory: Path | None, *, project: str | None = None) -> Iterator[Desk]:
    """Open the memory at that path (a folder means the one of its clone), or that of the current folder."""
    from orchestra.memory.place import memory_of, project_of
    from orchestra.memory.store import Store

    here = Path.cwd()
    if memory is None or memory.is_dir():
        memory = memory_of((memory or here).resolve())
    with Store(memory) as store:
        semantics = semantics_at(memory)
        yield Desk(store, semantics, project if project is not None else project_of(here), time.time_ns() // 1_000_000)
        if store.has_written:
            semantics.wake()


def semantics_at(path: Path) -> Semantics:
    """Return who is asked what is near in meaning in that memory, by the options of `orchestra memory`.

    Other commands have no such options: for them the environment and the file count.
    """
    from orchestra.memory.embedder import Choice, plan_of
    from orchestra.memory.meaning import Semantics
    from orchestra.memory.model import default_models

    context = click.get_current_context()
    found = context.find_object(dict)
    if found is None:
        from .memory import memory

        defaults = (context.find_root().default_map or {}).get("memory", {})
        with memory.make_context("memory", [], default_map=defaults, resilient_parsing=True) as read:
            found = read.params
    choice = Choice(
        embed=found["embed"],
        url=found["embed_url"] or "",
        key=os.environ.get("ORCHESTRA_EMBED_KEY", ""),
        models=found["models"] or default_models(),
    )
    plan_of(choice)  # a setting that leads nowhere is told before anything is written
    return Semantics(path, choice, is_indexer_wanted=found["indexer"])


def memory_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--memory` and `--json`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)
    return memory_option(command)


def memory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--memory",
        type=click.Path(path_type=Path),
        envvar="ORCHESTRA_MEMORY",
        default=None,
        show_default="that of the clone you are in",
        help="File of the memory, or a folder of its clone.  [env: ORCHESTRA_MEMORY]",
    )(command)


def author_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--by",
        "author",
        envvar="ORCHESTRA_AGENT",
        default=_user,
        show_default="your user name",
        help="Who says so.  [env: ORCHESTRA_AGENT]",
    )(command)


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--project", default=None, show_default="the name of the clone's folder", help="Project it belongs to."
    )(command)


def tags_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--tag", "tags", multiple=True, help="A word to find it by; may be repeated.")(command)


def visibility_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--visibility",
        type=click.Choice([each.value for each in Visibility]),
        default=Visibility.SHARED.value,
        show_default=True,
        help="private: this project only, and told to nobody; shared: all projects of this memory; public: anybody.",
    )(command)


def filter_options(limit: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that choose among memories, with this default for `--limit`."""
    from orchestra.memory.words import CATEGORIES, Confidence, Kind

    options = (
        click.option("--kind", type=click.Choice([each.value for each in Kind]), default=None, help="Only this kind."),
        click.option(
            "--category", type=click.Choice(CATEGORIES), default=None, help="Only this category of learnings."
        ),
        click.option(
            "--confidence",
            type=click.Choice([each.value for each in Confidence]),
            default=None,
            help="Only this confidence or higher.",
        ),
        click.option("--tag", "tags", multiple=True, help="Only with this tag; may be repeated."),
        click.option("--since", default=None, help="Only newer: 12h, 3d, 2w, 1m, 1y or 2026-11-24."),
        project_option,
        click.option("--all", "is_all", is_flag=True, help="Memories of every project."),
        click.option(
            "--limit",
            type=click.IntRange(1, MEMORY_LIST_ROWS_MAX),
            default=limit,
            show_default=True,
            help="How many at most.",
        ),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def agreed(what: str, *, is_yes: bool) -> bool:
    """Ask whether to go on; without a terminal nobody can answer, and nothing is done."""
    if is_yes:
        return True
    if not sys.stdin.isatty():
        say(f"{what} Nothing was changed; say --yes to do it.")
        return False
    return click.confirm(what, err=True)


def line_of(entry: Entry, *, now_ms: int, validations: int = 0, with_project: bool = False) -> str:
    """Return one line: the number, the title, and what says how far to trust it."""
    facts = about(entry, now_ms=now_ms, validations=validations, with_project=with_project)
    return f"{click.style(f'#{entry.id}', bold=True)}  {clean(entry.title)}  {click.style(facts, dim=True)}"


def about(entry: Entry, *, now_ms: int, validations: int = 0, with_project: bool = False) -> str:
    """Return the kind, state and age of a memory in words."""
    parts = [entry.kind, entry.category, entry.severity, entry.component, entry.confidence]
    if validations:
        parts.append(f"validated {validations}×")
    if entry.sender:
        parts.append(f"from {entry.sender}")
    if entry.kind == "issue":
        parts.append("closed" if entry.closed_ms else "open")
    if entry.forgotten_ms:
        parts.append("forgotten")
    parts.append(ago(entry.created_ms, now_ms=now_ms))
    if with_project and entry.project:
        parts.append(entry.project)
    return clean(" · ".join(part for part in parts if part))


def lines_of(entry: Entry) -> list[str]:
    """Return everything else a memory says, indented."""
    lines: list[str] = []
    for name, heading in _SECTIONS:
        value = getattr(entry, name)
        if not value:
            continue
        if name == "tags":
            lines.append(f"    tags: {clean(', '.join(value))}")
        elif isinstance(value, tuple):
            lines += [f"    {heading}:", *(f"      - {clean(each)}" for each in value)]
        else:
            shown = clean(value).splitlines()
            lines += [
                f"    {heading}: {shown[0]}" if heading else f"    {shown[0]}",
                *(f"    {each}" for each in shown[1:]),
            ]
    return lines


def preview_of(entry: Entry) -> str:
    """Return the begin of what a memory says beside its title."""
    from orchestra.memory.entry import one_line, shortened

    texts = (entry.body, entry.lesson, entry.prevention, entry.fix, entry.repro, *entry.next_steps, *entry.wins)
    return shortened(clean(one_line(next((text for text in texts if text), ""))), _PREVIEW_CHARS)


def tokens_in(lines: list[str]) -> int:
    """Return about how many tokens of a language model these lines are."""
    return sum(len(line) + 1 for line in lines) // _CHARS_A_TOKEN


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return f"user-{os.getuid()}"
