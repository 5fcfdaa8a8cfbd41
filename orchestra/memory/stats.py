"""What a memory holds, in numbers, and how its full-text index is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from . import fulltext
from .store import Store
from .words import Kind

_DAY_MS: Final = 86_400_000
_ALIVE: Final = "forgotten_ms IS NULL"


def stats_of(store: Store, *, now_ms: int) -> dict[str, Any]:
    """Return the numbers, ready for JSON."""
    kinds = dict(store.rows(f"SELECT kind, count(*) FROM memory WHERE {_ALIVE} GROUP BY kind"))
    return {
        "path": str(store.path),
        "exists": store.exists,
        "bytes": sum(each.stat().st_size for each in _files(store.path) if each.exists()),
        "kinds": {kind.value: kinds.get(kind, 0) for kind in Kind},
        "forgotten": store.rows("SELECT count(*) FROM memory WHERE forgotten_ms IS NOT NULL")[0][0],
        "learnings": {
            "categories": _counts(store, "category", Kind.LEARNING),
            "confidence": _counts(store, "confidence", Kind.LEARNING),
            "validations": store.rows("SELECT count(*) FROM validation")[0][0],
        },
        "open_issues": _counts(store, "severity", Kind.ISSUE, "closed_ms IS NULL"),
        "unread_messages": sum(_counts(store, "recipient", Kind.MESSAGE, "read_ms IS NULL").values()),
        "waiting_for_hub": store.rows("SELECT count(*) FROM unsent")[0][0],
        "sessions": _sessions(store, now_ms),
        "projects": _counts(store, "project"),
        "fulltext": "on" if fulltext.is_on(store.database) else "off",
    }


def _counts(store: Store, column: str, kind: str = "", more: str = "1") -> dict[str, int]:
    of_kind, params = ("kind = ?", (kind,)) if kind else ("1", ())
    where = f"{_ALIVE} AND {of_kind} AND {more}"
    sql = f"SELECT {column}, count(*) AS n FROM memory WHERE {where} GROUP BY 1 ORDER BY n DESC, 1"
    return dict(store.rows(sql, *params))


def _sessions(store: Store, now_ms: int) -> dict[str, int]:
    sql = f"SELECT count(*) FROM memory WHERE {_ALIVE} AND kind = 'session' AND created_ms >= ?"
    spans = {"total": 0, "week": now_ms - 7 * _DAY_MS, "month": now_ms - 30 * _DAY_MS}
    return {name: store.rows(sql, since)[0][0] for name, since in spans.items()}


def _files(path: Path) -> list[Path]:
    return [path, Path(f"{path}-wal")]
