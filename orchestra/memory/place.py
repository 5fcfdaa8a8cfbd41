"""Where a matrix keeps its memory, and what the project is called."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = ".orchestra"
FILE: Final = "memory.db"


def root_of(folder: Path) -> Path:
    """Return the root of the matrix that `folder` lies in: the nearest one with `.orchestra` or `.git`, or itself."""
    for each in (folder, *folder.parents):
        if (each / FOLDER).is_dir() or (each / ".git").exists():
            return each
    return folder


def memory_of(folder: Path) -> Path:
    """Return the file of the memory of the matrix that `folder` lies in; it need not exist."""
    return root_of(folder) / FOLDER / FILE


def project_of(folder: Path) -> str:
    """Return what the project that `folder` lies in is called: the name of its root."""
    return root_of(folder).name


def make_folder(path: Path) -> None:
    """Make the folder of a memory; one that is made inside a clone is kept out of its git."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if path.is_dir():  # since long, or another process was quicker
            return
        raise
    if path.name == FOLDER:
        (path / ".gitignore").write_text("*\n", encoding="ascii")
