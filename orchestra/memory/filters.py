"""Which memories count for an answer: by kind, tag, age, confidence, project. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .words import Confidence, Visibility, at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which memories count. Empty means: all of them."""

    kind: str = ""
    category: str = ""
    confidence: str = ""
    """This one or a higher."""
    tags: tuple[str, ...] = ()
    since_ms: int = 0
    project: str | None = None
    """None: those of every project, but the private ones of `home` only."""
    home: str = ""
    with_forgotten: bool = False

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition on `memory m`, and its values."""
        parts: list[str] = ["1"]
        values: list[Any] = []
        for column, value in (("kind", self.kind), ("category", self.category)):
            if value:
                parts.append(f"m.{column} = ?")
                values.append(value)
        if self.confidence:
            names = at_least(Confidence(self.confidence))
            parts.append(f"m.confidence IN ({', '.join('?' * len(names))})")
            values += names
        for tag in self.tags:
            parts.append("instr(char(10) || lower(m.tags) || char(10), char(10) || lower(?) || char(10)) > 0")
            values.append(" ".join(tag.split()))
        if self.since_ms:
            parts.append("m.created_ms >= ?")
            values.append(self.since_ms)
        if self.project is not None:
            parts.append("m.project = ?")
            values.append(self.project)
        else:
            parts.append("(m.visibility <> ? OR m.project = ?)")
            values += [Visibility.PRIVATE, self.home]
        if not self.with_forgotten:
            parts.append("m.forgotten_ms IS NULL")
            parts.append(
                "NOT EXISTS (SELECT 1 FROM memory newer WHERE newer.supersedes = m.id AND newer.forgotten_ms IS NULL)"
            )
        return " AND ".join(parts), values
