"""What git can tell of a session: the branch, the commits since the last one, the files that changed.

Git is asked for at most GIT_WAIT_S a question; where it is missing, slow or refuses, nothing is told.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestra.limits import GIT_WAIT_S, MEMORY_ITEM_CHARS_MAX, MEMORY_ITEMS_MAX

from .entry import one_line, shortened

_FIRST_COMMITS: Final = 10  # of the first session, which has no last one


@dataclass(frozen=True, slots=True)
class Work:
    """What happened in a clone. `files` are those of the commits and those not committed yet."""

    branch: str = ""
    commits: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def work_in(folder: Path, *, since_ms: int = 0) -> Work:
    """Return what happened in the clone that `folder` lies in since the last session."""
    branch = _ask(folder, "symbolic-ref", "--quiet", "--short", "HEAD") or _ask(folder, "rev-parse", "--short", "HEAD")
    since = (f"--since=@{since_ms // 1000}",) if since_ms else ()
    count = f"--max-count={MEMORY_ITEMS_MAX if since_ms else _FIRST_COMMITS}"
    commits = _lines(_ask(folder, "log", count, *since, "--no-color", "--format=%h %s"))
    logged = _ask(folder, "log", count, *since, "--no-color", "--format=", "--name-only", "-z").split("\0")
    status = _ask(folder, "status", "--porcelain", "-z", "--no-renames").split("\0")
    files = dict.fromkeys([*(line[3:] for line in status), *(line.strip("\n") for line in logged)])
    return Work(one_line(branch), commits, tuple(_item(each) for each in files if each)[:MEMORY_ITEMS_MAX])


def _lines(text: str) -> tuple[str, ...]:
    return tuple(_item(line) for line in text.splitlines() if line.strip())[:MEMORY_ITEMS_MAX]


def _item(text: str) -> str:
    return shortened(one_line(text), MEMORY_ITEM_CHARS_MAX)


def _ask(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=GIT_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
