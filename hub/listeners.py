"""Which program listens on a port, as far as Linux tells this user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"  # `enum` in the kernel's include/net/tcp_states.h
_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")


def listeners_on(port: int) -> str:
    """Return the programs that listen on a TCP port, such as `nginx (process 812)`; empty where that can't be seen."""
    inodes = {f"socket:[{inode}]" for table in _TABLES for inode in _listening(Path(table), port)}
    found = {_name(process) for process in _processes() if inodes and not inodes.isdisjoint(_links(process))}
    return ", ".join(sorted(found))


def _listening(table: Path, port: int) -> Iterator[str]:
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for fields in map(str.split, lines):
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _processes() -> Iterator[Path]:
    try:
        yield from (each for each in Path("/proc").iterdir() if each.name.isdecimal())
    except OSError:
        return


def _links(process: Path) -> set[str]:
    """Return what the files of a process are; nothing of one that is another user's, or over."""
    found = set()
    with suppress(OSError):
        for each in (process / "fd").iterdir():
            found.add(str(each.readlink()))
    return found


def _name(process: Path) -> str:
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = "a program"
    return f"{name} (process {process.name})"
