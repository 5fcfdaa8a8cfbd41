"""Issues of Beads (its `issues.jsonl`), as issues of this memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from orchestra.errors import OrchestraError
from orchestra.limits import MEMORY_TEXT_CHARS_MAX, MEMORY_TITLE_CHARS_MAX

from .entry import Entry, shortened
from .exchange import Record, Report
from .when import stamp_ms
from .words import Kind, Severity

_SEVERITIES: Final = (
    Severity.CRITICAL,
    Severity.HIGH,
    Severity.MEDIUM,
    Severity.LOW,
    Severity.LOW,
)  # by priority 0 to 4
_SECTIONS: Final = (
    ("description", ""),
    ("design", "Design"),
    ("acceptance_criteria", "Acceptance"),
    ("notes", "Notes"),
)
_TAKEN: Final = frozenset(
    re.findall(
        r"[\w']+",
        """
        id title description design acceptance_criteria notes status priority issue_type labels created_at
        updated_at closed_at close_reason external_ref comments created_by content_hash
        """,
    )
)


def records_in(lines: Iterable[tuple[int, dict[str, Any]]], report: Report, *, project: str) -> list[Record]:
    """Read the lines of `issues.jsonl`; what does not fit goes into the report."""
    records, left_out = [], Counter[str]()
    for number, facts in lines:
        try:
            records.append(Record(_issue(facts, project=project)))
        except (OrchestraError, ValueError, TypeError, KeyError, AttributeError) as exc:
            report.misfits.append(f"line {number}: {exc}")
            continue
        left_out.update(name for name, value in facts.items() if name not in _TAKEN and value)
    report.misfits += [f"field {name} of {count} issues has no place here" for name, count in sorted(left_out.items())]
    return records


def _issue(facts: dict[str, Any], *, project: str) -> Entry:
    status, closed = facts.get("status", "open"), facts.get("closed_at")
    updated_ms = stamp_ms(facts.get("updated_at") or facts["created_at"])
    is_over = status in ("closed", "tombstone")
    tags = [*(facts.get("labels") or []), facts.get("issue_type") or "task"]
    if status not in ("open", "closed", "tombstone"):
        tags.append(status)
    return Entry(
        kind=Kind.ISSUE,
        uid=f"beads:{facts['id']}",
        title=shortened(facts["title"], MEMORY_TITLE_CHARS_MAX),
        body=shortened(_body(facts), MEMORY_TEXT_CHARS_MAX),
        severity=_SEVERITIES[min(4, max(0, int(facts.get("priority", 2))))],
        component="other",
        tags=tuple(tags),
        fix=facts.get("close_reason") or "",
        link=facts.get("external_ref") or "",
        author=facts.get("created_by") or "",
        source=f"beads {facts['id']}",
        project=project,
        created_ms=stamp_ms(facts["created_at"]),
        updated_ms=updated_ms,
        closed_ms=(stamp_ms(closed) if closed else updated_ms) if is_over else None,
        forgotten_ms=updated_ms if status == "tombstone" else None,
    ).checked()


def _body(facts: dict[str, Any]) -> str:
    parts = [f"{heading}: {text}" if heading else text for name, heading in _SECTIONS if (text := facts.get(name))]
    parts += [f"{each.get('author', 'somebody')}: {each['text']}" for each in facts.get("comments") or []]
    return "\n\n".join(parts)
