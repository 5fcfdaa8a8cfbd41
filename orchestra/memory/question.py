"""What a person asks a memory for: the words that count, and how full-text search is told of them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestra.limits import MEMORY_NUMBER_MAX, RECALL_TERMS_MAX

# Words that say that something is asked, not what.
_IDLE: Final = frozenset(
    re.findall(
        r"[\w']+",
        """
        a about after again all also am an and any are as at be because been before being but by can can't could
        did didn't do does doesn't doing don't down during each else ever few for from further get gets getting
        give given go goes going got had has have having he her here him his how i if in into is isn't it its
        itself just let like made make makes many may me might more most much must my no nor not of off on once
        one only or other our out over own please really same say says see seem seems she should so some something
        sometimes still such tell than that the their them then there these they thing things this those through
        to too under until up upon us use used using very want wants was way we were what when where which while
        who whom whose why will with won't would you your s t d ll m re ve don doesn didn isn won aren wasn couldn
        shouldn
        """,
    )
)
_WORD: Final = re.compile(r"[^\W_]+")
_PREFIX_CHARS_MIN: Final = 3  # a shorter prefix finds almost everything


class Aim(StrEnum):
    """What a question is after."""

    OPEN = "open"
    """Nothing was asked: the last session, and what is open."""
    ID = "id"
    SESSION = "session"
    SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its aim. `id` is set for `Aim.ID`, and for `Aim.SESSION` where the name has one."""

    text: str
    aim: Aim
    id: int = 0


def question_of(text: str) -> Question:
    """Read `#42`, `42`, `learning_42`, `issue_42`, `session_42`; anything else is searched for."""
    text = " ".join(text.split())
    if not text:
        return Question(text, Aim.OPEN)
    if found := re.fullmatch(r"#?(\d{1,16})|(?:learning|issue|message|context)_(\d{1,16})", text, re.ASCII):
        return Question(text, Aim.ID, min(int(found[1] or found[2]), MEMORY_NUMBER_MAX))
    if found := re.fullmatch(r"session_(\w{1,64})", text, re.ASCII):
        return Question(text, Aim.SESSION, int(found[1]) if found[1].isdigit() and len(found[1]) < 16 else 0)
    return Question(text, Aim.SEARCH)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, in order, cut where the full-text index cuts."""
    return [word.lower() for word in _WORD.findall(text)]


def terms_of(question: str) -> list[str]:
    """Return the words of a question that count, each once; all of them if none does."""
    words = list(dict.fromkeys(words_of(question)))
    return ([word for word in words if word not in _IDLE] or words)[:RECALL_TERMS_MAX]


def any_of(terms: list[str], *, is_prefix: bool = False) -> str:
    """Return the query that finds rows with any of the terms, or with words that begin like one.

    Every term is quoted and holds letters and digits only, so nothing a person types is syntax.
    """
    if is_prefix:
        return " OR ".join(f'"{term}" *' for term in terms if len(term) >= _PREFIX_CHARS_MIN)
    return " OR ".join(f'"{term}"' for term in terms)
