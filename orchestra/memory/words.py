"""The words a memory is sorted by, and the rule of confidence. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    LEARNING = "learning"
    ISSUE = "issue"
    MESSAGE = "message"
    SESSION = "session"
    CONTEXT = "context"


class Confidence(StrEnum):
    """How far a learning can be trusted, the least first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    PROVEN = "proven"


class Severity(StrEnum):
    """How bad an issue is, the worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Visibility(StrEnum):
    """`private`: never shown outside its project. `shared`: to every project of this memory. `public`: to anybody."""

    PRIVATE = "private"
    SHARED = "shared"
    PUBLIC = "public"


CATEGORIES: Final = (
    "performance", "architecture", "tooling", "process", "debugging", "security", "testing",
    "philosophy", "principle", "insight", "pattern", "retrospective",
)  # fmt: skip
COMPONENTS: Final = ("chromadb", "sqlite", "memory", "mcp", "agent", "cli", "vector", "other")

_ORDER: Final = tuple(Confidence)
_PROVED_BY: Final = ((4, Confidence.PROVEN), (2, Confidence.HIGH), (1, Confidence.MEDIUM))

# The first that fits is taken, so the narrow ones come first.
_SIGNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (category, re.compile(rf"\b(?:{words})", re.IGNORECASE))
    for category, words in (
        ("security", r"secur|auth|token|secret|password|encrypt|permission|vulnerab|certificate|inject"),
        ("performance", r"perform|slow|fast|latency|throughput|cache|optimi[sz]|memory leak|benchmark"),
        ("testing", r"test|coverage|fixture|mock|assert|flaky"),
        ("debugging", r"bug|debug|crash|hang|fail|error|race|deadlock|traceback|broke|fix"),
        ("tooling", r"tool|docker|lint|editor|script|command line|cli\b|plugin|package|build"),
        ("process", r"process|review|release|deploy|workflow|merge|branch|plan|meeting|commit"),
        ("architecture", r"architect|design|module|interface|schema|layer|depend|protocol|decouple"),
        ("pattern", r"pattern|idiom|convention|always|whenever"),
        ("principle", r"principle|never|must|rule"),
        ("retrospective", r"retrospective|looking back|in hindsight|lesson"),
        ("philosophy", r"philosoph|believe|simplicity|values?\b"),
    )
)


def confidence_after(old: Confidence, *, validations: int) -> Confidence:
    """Return the confidence of a learning that was validated so often: it rises with that, and never falls.

    Whoever wrote it is its first witness, so one validation makes it `medium`, two `high`, four `proven`.
    """
    proved = next((found for count, found in _PROVED_BY if validations >= count), Confidence.LOW)
    return max(old, proved, key=_ORDER.index)


def at_least(confidence: Confidence) -> tuple[Confidence, ...]:
    """Return this confidence and every higher one."""
    return _ORDER[_ORDER.index(confidence) :]


def category_of(text: str, *, otherwise: str) -> str:
    """Return the category that the words of a text point at."""
    return next((category for category, sign in _SIGNS if sign.search(text)), otherwise)
