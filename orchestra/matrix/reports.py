"""Reported issues on the hub's channel `issues`: one named entry for each, which the next state of it overwrites."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestra.limits import LIST_ROWS_MAX, REPORT_TEXT_CHARS_MAX
from orchestra.memory.entry import Entry, shortened
from orchestra.memory.words import COMPONENTS, Severity, Visibility

if TYPE_CHECKING:
    from orchestra.aio import Client

CHANNEL: Final = "channel/issues"
_TEXTS: Final = ("title", "project", "body", "repro", "fix", "link", "author")


@dataclass(frozen=True, slots=True)
class Report:
    """An issue as another matrix tells it. `matrix` is who its key says that it is; `uid` is the same in every copy."""

    uid: str
    matrix: str
    title: str
    severity: str
    component: str
    project: str
    body: str
    repro: str
    fix: str
    link: str
    author: str
    reported_ms: int
    is_closed: bool


def is_told(entry: Entry) -> bool:
    """Whether an issue is for others at all."""
    return entry.visibility != Visibility.PRIVATE


def encode(entry: Entry) -> bytes:
    """Return an issue as the body of its entry in the channel."""
    facts = {name: shortened(getattr(entry, name), REPORT_TEXT_CHARS_MAX) for name in _TEXTS}
    facts |= {"severity": entry.severity, "component": entry.component}
    told = {**facts, "reported_ms": entry.created_ms, "is_closed": entry.closed_ms is not None}
    return json.dumps(told, ensure_ascii=False).encode()


async def read(client: Client) -> list[Report]:
    """Return every issue that the channel holds, the newest first; what is none is passed over."""
    found: list[Report] = []
    after = 0
    while page := (await client.call("channel.read", channel=CHANNEL, after=after, count=LIST_ROWS_MAX))["entries"]:
        found += [report for each in page if (report := _decode(each)) is not None]
        after = page[-1]["seq"]
    return sorted(found, key=lambda report: -report.reported_ms)


def _decode(entry: dict[str, Any]) -> Report | None:
    """Read one entry. Any peer may publish to the channel, so nothing in it is taken for granted."""
    if entry["removed"] or not entry["entry"]:
        return None
    try:
        told = json.loads(entry["body"])
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not all(isinstance(told.get(name, ""), str) for name in _TEXTS):
        return None
    severity, component, reported_ms = told.get("severity"), told.get("component"), told.get("reported_ms")
    if severity not in tuple(Severity) or not told.get("title"):
        return None
    return Report(
        uid=entry["entry"],
        matrix=entry["from"],
        severity=str(severity),
        component=str(component) if component in COMPONENTS else "other",
        reported_ms=reported_ms if type(reported_ms) is int and reported_ms >= 0 else entry["sent_ms"],
        is_closed=told.get("is_closed") is True,
        **{name: str(told.get(name, "")) for name in _TEXTS},
    )
