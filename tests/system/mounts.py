"""Programs in a mount namespace of their own, with a small disk or one that can't be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

_SMALL = 'mount -t tmpfs -o "size=$1,mode=0700" none "$0" && shift && exec "$@"'
_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@cache
def _why_not() -> str:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "needs root and unshare(1), to mount something that nobody else sees"
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, text=True, check=False
    )
    return f"nothing may be mounted here: {tried.stderr.strip()}" if tried.returncode else ""


def on_small_disk(folder: Path, size_bytes: int, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` where `folder` is an empty disk of that size; it has the same process id.

    Others find what is in it below `/proc/PID/root`.
    """
    _skip_where_not_possible()
    return ["unshare", "-m", "sh", "-c", _SMALL, str(folder), str(size_bytes), *argv]


def with_read_only(path: Path, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` where `path`, a file or a folder, can't be written, not even by root."""
    _skip_where_not_possible()
    return ["unshare", "-m", "sh", "-c", _READ_ONLY, str(path), *argv]


def _skip_where_not_possible() -> None:
    if reason := _why_not():
        pytest.skip(reason)
