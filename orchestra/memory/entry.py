"""One memory as a value: what is written, checked before it is, and how it looks as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

from orchestra.errors import BadOption, TooLarge
from orchestra.limits import (
    MEMORY_ITEM_CHARS_MAX,
    MEMORY_ITEMS_MAX,
    MEMORY_NUMBER_MAX,
    MEMORY_TEXT_CHARS_MAX,
    MEMORY_TITLE_CHARS_MAX,
)

from .words import CATEGORIES, Confidence, Kind, Severity, Visibility


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the table `memory`, field by field in the order of its columns. Times are milliseconds since 1970.

    `id` is the number people see, 0 before it is stored; `uid` is the same in every copy. `supersedes` and `session`
    are ids: of the memory this one replaces, and of the session it was drawn from. A field of another kind is empty.
    """

    id: int = 0
    uid: str = ""
    kind: str = Kind.LEARNING
    title: str = ""
    body: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    author: str = ""
    source: str = ""
    tags: tuple[str, ...] = ()
    visibility: str = Visibility.SHARED
    project: str = ""
    supersedes: int | None = None
    forgotten_ms: int | None = None
    # A learning.
    category: str = ""
    lesson: str = ""
    prevention: str = ""
    context: str = ""
    confidence: str = ""
    session: int | None = None
    # An issue.
    severity: str = ""
    component: str = ""
    repro: str = ""
    fix: str = ""
    link: str = ""
    closed_ms: int | None = None
    # A message.
    sender: str = ""
    recipient: str = ""
    thread: str = ""
    read_ms: int | None = None
    # A session.
    wins: tuple[str, ...] = ()
    challenges: tuple[str, ...] = ()
    learnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    branch: str = ""
    commits: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def checked(self) -> Self:
        """Return it with its texts made storable.

        Raises:
            BadOption: if a field is none of its kind's words, or has another type.
            TooLarge: if a text or a list is above its limit.
        """
        clean: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            check = _CHECKS[field.type if isinstance(field.type, str) else str(field.type)]
            clean[field.name] = check(field.name, value)
        entry = replace(self, **clean)
        if not entry.title:
            raise BadOption(f"a {entry.kind} needs a title")
        for name, words in _WORDS.items():
            word = getattr(entry, name)
            if word not in words and not (word == "" and name in _MAY_BE_EMPTY):
                raise BadOption(f"{name} {word!r} does not exist; there are: {', '.join(words)}")
        if entry.kind == Kind.LEARNING and not (entry.category and entry.confidence):
            raise BadOption("a learning needs a category and a confidence")
        if entry.kind == Kind.ISSUE and not entry.severity:
            raise BadOption("an issue needs a severity")
        return entry

    def facts(self) -> dict[str, Any]:
        """Return every field, ready for JSON."""
        return {name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in COLUMNS}

    def shown(self) -> dict[str, Any]:
        """Return the fields that say something, ready for JSON."""
        return {name: value for name, value in self.facts().items() if value not in ("", [], None)}

    def text(self) -> str:
        """Return all its words, for what compares memories by them."""
        parts = [self.title, self.body, self.lesson, self.prevention, self.repro, self.fix]
        for items in (self.wins, self.challenges, self.learnings, self.next_steps):
            parts.extend(items)
        return "\n".join(part for part in parts if part)


COLUMNS: Final = tuple(field.name for field in fields(Entry))
LISTS: Final = frozenset(field.name for field in fields(Entry) if "tuple" in str(field.type))

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "kind": tuple(Kind),
    "visibility": tuple(Visibility),
    "category": CATEGORIES,
    "confidence": tuple(Confidence),
    "severity": tuple(Severity),
}
_MAY_BE_EMPTY: Final = frozenset(("category", "confidence", "severity"))


def entry_of(facts: Mapping[str, Any]) -> Entry:
    """Make a checked memory of what JSON holds.

    Raises:
        BadOption, TooLarge: as `Entry.checked`; also for a field that does not exist.
    """
    unknown = sorted(set(facts) - set(COLUMNS))
    if unknown:
        raise BadOption(f"a memory has no field {', '.join(unknown)}")
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return Entry(**made).checked()


def storable(text: str) -> str:
    """Return a text without what SQLite or UTF-8 can't hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def one_line(text: str) -> str:
    """Return a text with every run of white space, line ends included, as one space."""
    return " ".join(storable(text).split())


def shortened(text: str, chars: int) -> str:
    """Return at most so many characters, and show where the rest is missing."""
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadOption(f"{name} is {type(value).__name__}, not text")
    most = MEMORY_TITLE_CHARS_MAX if name == "title" else MEMORY_TEXT_CHARS_MAX
    if len(value) > most:
        raise TooLarge(f"{name} has {len(value)} characters; the limit is {most}")
    return one_line(value) if name == "title" else storable(value).strip()


def _items(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
        raise BadOption(f"{name} is not a list of texts")
    if len(value) > MEMORY_ITEMS_MAX:
        raise TooLarge(f"{name} has {len(value)} items; the limit is {MEMORY_ITEMS_MAX}")
    longest = max((len(each) for each in value), default=0)
    if longest > MEMORY_ITEM_CHARS_MAX:
        raise TooLarge(f"an item of {name} has {longest} characters; the limit is {MEMORY_ITEM_CHARS_MAX}")
    return tuple(dict.fromkeys(line for each in value if (line := one_line(each))))


def _number(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MEMORY_NUMBER_MAX:
        raise BadOption(f"{name} is not a whole number from 0 to {MEMORY_NUMBER_MAX}")
    return value


def _number_or_none(name: str, value: Any) -> int | None:
    return None if value is None else _number(name, value)


_CHECKS: Final[dict[str, Any]] = {
    "int": _number,
    "int | None": _number_or_none,
    "str": _text,
    "tuple[str, ...]": _items,
}
