"""A file to be imported: which of the known formats it has, and its lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from orchestra.errors import StateFault
from orchestra.limits import MEMORY_LINE_BYTES_MAX

from . import beads, earlier, exchange
from .exchange import Record, Report

_SQLITE: Final = b"SQLite format 3\0"


def read(path: Path, *, project: str) -> tuple[str, list[Record], Report]:
    """Return the name of the format, what the file holds, and a report of what did not fit.

    Raises:
        StateFault: if the file can't be read, or has none of the formats.
    """
    report = Report()
    try:
        with path.open("rb") as file:
            if file.peek(len(_SQLITE))[: len(_SQLITE)] == _SQLITE:
                return "agents.db", earlier.records_in(path, report), report
            return _json_lines(path, file, report, project=project)
    except OSError as exc:
        raise StateFault(f"{path} can't be read: {exc.strerror}") from exc


def _json_lines(path: Path, file: IO[bytes], report: Report, *, project: str) -> tuple[str, list[Record], Report]:
    lines = list(_objects(file, report))
    first = lines[0][1] if lines else {}
    if not lines and report.misfits:
        raise StateFault(f"{path} is neither an export of a memory, nor Beads' issues.jsonl, nor an agents.db")
    if "uid" in first or "format" in first or not lines:
        return "export", exchange.records_in(lines, report), report
    if "id" in first and "title" in first:
        return "beads", beads.records_in(lines, report, project=project), report
    raise StateFault(f"{path} is neither an export of a memory, nor Beads' issues.jsonl, nor an agents.db")


def _objects(file: IO[bytes], report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give each line that holds a JSON object, with its number."""
    number = 0
    while raw := file.readline(MEMORY_LINE_BYTES_MAX):
        number += 1
        if not raw.endswith(b"\n") and len(raw) == MEMORY_LINE_BYTES_MAX:
            report.misfits.append(f"line {number}: it is longer than {MEMORY_LINE_BYTES_MAX} bytes")
            while (rest := file.readline(MEMORY_LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
            continue
        if not raw.strip():
            continue
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            report.misfits.append(f"line {number}: it is not JSON")
            continue
        if isinstance(found, dict):
            yield number, found
        else:
            report.misfits.append(f"line {number}: it is not a JSON object")
